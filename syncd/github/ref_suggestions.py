"""Suggests the branch or tag that a misspelled ref may mean: one request, after the failure.

The request lists the names that begin with the same letter. So it stays one request in a repository
with thousands of branches, and a wrong first letter gets no suggestion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.deadline import Deadline
from syncd.errors import AuthError, LimitError, RemoteError
from syncd.github.json_body import parse_json
from syncd.github.protocol import quote_path, server_text
from syncd.github.request import send_and_read
from syncd.github.scope import RepositoryScope
from syncd.text import closest

BRANCHES, TAGS = "heads/", "tags/"
VERSION = re.compile(r"v?\d")
COMMIT = re.compile(r"[0-9a-f]{7,64}")
MAX_NAMES = 100
MAX_SECONDS = 10.0


def suggest_ref(scope: RepositoryScope, ref: str | None) -> str | None:
    """Return the branch or tag that is spelled nearly as `ref`, in its form; None if there is none.

    A name like `v1.2` is looked for among the tags, every other short name among the branches. A
    run that no person waits for asks nothing. Source: GitHub REST docs, "List matching references".
    """
    name = (ref or "").removeprefix("refs/")
    if not scope.deadline.interactive or not name or COMMIT.fullmatch(name):
        return None
    namespace = TAGS if VERSION.match(name) else BRANCHES
    if name != ref:  # a full ref names its namespace
        namespace = next((one for one in (BRANCHES, TAGS) if name.startswith(one)), "")
        name = name.removeprefix(namespace)
        if not namespace or not name:
            return None
    try:
        found = closest(name, _names(scope, namespace, name[0]))
    except (RemoteError, AuthError, LimitError):
        return None  # the ref is missing all the same, and that is the error to report
    prefix = (ref or "").removesuffix(name)
    return None if found is None else f"{prefix}{found}"


def _names(scope: RepositoryScope, namespace: str, first: str) -> list[str]:
    path = f"/git/matching-refs/{quote_path(namespace + first)}?per_page={MAX_NAMES}"
    request = scope.get_request(path, "refs", f"similar refs of {scope.repo}")
    with _short(scope.deadline) as deadline:
        body = send_and_read(scope.transport, request, deadline).body
    rows = parse_json(body, request.subject, "refs")
    refs = [server_text(row.get("ref")) for row in rows if isinstance(row, dict)]
    return [one.removeprefix(f"refs/{namespace}") for one in refs if one.startswith("refs/")]


@contextmanager
def _short(deadline: Deadline) -> Iterator[Deadline]:
    """Return a deadline for one request: a suggestion is not worth a second one, or a long wait."""
    seconds = min(MAX_SECONDS, deadline.remaining_seconds())
    short = Deadline(deadline.clock, seconds, deadline.stop)
    short.may_retry = False
    try:
        yield short
    finally:
        deadline.request_count += short.request_count


__all__ = ["suggest_ref"]
