"""What GitHub says of a commit: author, message, verification of its signature, and descent.

Also the commit or tag itself, as git stores it.
"""

from __future__ import annotations

from typing import Any

from syncd.errors import BadResponseError, NotFoundError
from syncd.git_objects import is_object_id
from syncd.github.git_object import is_said_unsigned, rebuild_commit, rebuild_tag
from syncd.github.json_body import parse_json
from syncd.github.protocol import quote_path, server_text
from syncd.github.request import send_and_read
from syncd.github.scope import RepositoryScope
from syncd.models import CommitSummary

IS_DESCENDANT = {"ahead": True, "identical": True, "behind": False, "diverged": False}
MAX_REASON_LENGTH = 60
HISTORY_PAGES = 10  # of 100 commits each


def verification(scope: RepositoryScope, commit: str) -> tuple[bool, str]:
    """Return whether GitHub marks the commit verified, and its reason.

    Source: REST docs, "Get a commit object".
    """
    subject = f"the signature of {commit[:7]} of {scope.repo}"
    answer = _commit_object(scope, commit, subject).get("verification")
    if not isinstance(answer, dict) or not isinstance(answer.get("verified"), bool):
        raise BadResponseError(
            f"the answer for {subject} does not say whether it is verified",
            id="bad_response/no-verification",
            hint="require: {verified: true} needs a GitHub that verifies commits",
        )
    return answer["verified"], server_text(answer.get("reason"))[:MAX_REASON_LENGTH]


def commit_summary(scope: RepositoryScope, commit: str) -> CommitSummary:
    """Return the author and the first line of the message of a commit, each at most a line long.

    Source: REST docs, "Get a commit object"; `author.name` is what git recorded.
    """
    found = _commit_object(scope, commit, f"commit {commit[:7]} of {scope.repo}")
    author, message = found.get("author"), found.get("message")
    subject = message.lstrip().split("\n", 1)[0] if isinstance(message, str) else ""
    name = author.get("name") if isinstance(author, dict) else None
    return CommitSummary(server_text(subject), server_text(name))


def _commit_object(scope: RepositoryScope, commit: str, subject: str) -> dict[str, Any]:
    """Return GitHub's answer to "Get a commit object"; empty when it is about another commit."""
    request = scope.get_request(f"/git/commits/{commit}", "commit", subject)
    body = send_and_read(scope.transport, request, scope.deadline).body
    found = parse_json(body, request.subject, "commit")
    return found if isinstance(found, dict) and found.get("sha") == commit else {}


def is_descendant(scope: RepositoryScope, before: str, commit: str) -> bool:
    """Return whether `commit` is `before` or has it among its ancestors.

    It is False as well when GitHub knows no way between them: one of them is gone, or they share
    no ancestor. Source: REST docs, "Compare two commits".
    """
    # the files are on the first page only
    path = f"/compare/{before}...{commit}?per_page=1&page=2"
    subject = f"how {commit[:7]} of {scope.repo} follows {before[:7]}"
    request = scope.get_request(path, "compare", subject)
    try:
        body = send_and_read(scope.transport, request, scope.deadline).body
    except NotFoundError:
        return False
    found = parse_json(body, request.subject, "compare")
    status = found.get("status") if isinstance(found, dict) else None
    if status not in IS_DESCENDANT:
        raise BadResponseError(
            f"the answer for {request.subject} has no known status",
            id="bad_response/no-comparison",
            hint="nothing was changed; the next run asks again",
        )
    return IS_DESCENDANT[status]


# --- objects as git stores them -------------------------------------------------------------------


def commit_object(scope: RepositoryScope, commit: str) -> bytes | None:
    """Return the commit object, checked by its id.

    None for a commit that GitHub calls unsigned and whose object can't be rebuilt from its answer.
    Source: REST docs, "Get a commit object".
    """
    answer = _commit_object(scope, commit, f"the signature of {commit[:7]} of {scope.repo}")
    found = rebuild_commit(commit, answer)
    if found is None and not is_said_unsigned(answer):
        raise BadResponseError(
            f"what GitHub says of commit {commit[:7]} of {scope.repo} is not that commit: "
            "its id can't be computed from it",
            id="bad_response/other-object",
            hint="nothing was changed; the next run asks again",
        )
    return found


def tag_object(scope: RepositoryScope, name: str) -> bytes | None:
    """Return the annotated tag of this name, checked by its id; None where it has no signature.

    Source: REST docs, "Get a reference" and "Get a tag".
    """
    subject = f"the tag {name} of {scope.repo}"
    reference = _get(scope, f"/git/ref/tags/{quote_path(name)}", subject).get("object")
    target = reference if isinstance(reference, dict) else {}
    identity = target.get("sha")
    if target.get("type") != "tag" or not isinstance(identity, str) or not is_object_id(identity):
        return None
    answer = _get(scope, f"/git/tags/{identity}", subject)
    found = rebuild_tag(identity, answer)
    if found is None and not is_said_unsigned(answer):
        raise BadResponseError(
            f"what GitHub says of {subject} is not that tag: its id can't be computed from it",
            id="bad_response/other-object",
            hint="nothing was changed; the next run asks again",
        )
    return found


def history(scope: RepositoryScope, commit: str) -> dict[str, bytes]:
    """Return id -> object of the commit and of those before it, as far as they can be rebuilt.

    At most 1,000 are read. Source: REST docs, "List commits".
    """
    found: dict[str, bytes] = {}
    for page in range(1, HISTORY_PAGES + 1):
        path = f"/commits?sha={commit}&per_page=100&page={page}"
        request = scope.get_request(path, "commits", f"the history of {commit[:7]} of {scope.repo}")
        body = send_and_read(scope.transport, request, scope.deadline).body
        rows = parse_json(body, request.subject, "commits")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        for row in rows:
            identity, answer = row.get("sha"), row.get("commit")
            if isinstance(identity, str) and isinstance(answer, dict):
                rebuilt = rebuild_commit(identity, {**answer, "parents": row.get("parents")})
                found |= {} if rebuilt is None else {identity: rebuilt}
        if len(rows) < 100:
            break
    return found


def _get(scope: RepositoryScope, path: str, subject: str) -> dict[str, Any]:
    """Return GitHub's answer to a request for one object; empty where it is no mapping."""
    request = scope.get_request(path, "tag", subject)
    found = parse_json(
        send_and_read(scope.transport, request, scope.deadline).body, request.subject, "tag"
    )
    return found if isinstance(found, dict) else {}
