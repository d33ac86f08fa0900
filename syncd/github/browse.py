"""Looks around in a repository, to offer what a configuration can name.

What is read here is shown to a person and never listed or written, so it is not verified by git
ids. A run reads everything anew (listing.py). Source: REST docs, "Get a repository", "Get
repository content".
"""

from __future__ import annotations

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import AuthError, NotFoundError
from syncd.github.json_body import parse_json
from syncd.github.protocol import OBJECT, Transport, get, quote_path, repo_path, server_text
from syncd.github.request import send_and_read
from syncd.github.scope import folder_label
from syncd.github.tree_json import parse_contents

CONTENTS_LIMIT = 1000


class RepositoryInfo(Struct, frozen=True):
    """A repository as GitHub describes it; `full_name` is its present one, in GitHub's spelling."""

    full_name: str
    default_branch: str
    private: bool


def get_repository(transport: Transport, api: str, repo: str, deadline: Deadline) -> RepositoryInfo:
    """Return what GitHub says of a repository.

    Raises AuthError for one that does not exist or is hidden from this identity.
    """
    request = get(api, repo_path(repo), "repo", repo, repo)
    answer = send_and_read(transport, request, deadline)
    found = parse_json(answer.body, repo, "repo")
    row = found if isinstance(found, dict) else {}
    return RepositoryInfo(
        server_text(row.get("full_name")) or repo,
        server_text(row.get("default_branch")),
        row.get("private") is not False,
    )


class FolderNames(Struct, frozen=True):
    """The names in a folder -> whether each is a folder. `is_cut`: GitHub lists 1,000 at most."""

    names: dict[str, bool]
    is_cut: bool = False


def names_in(
    transport: Transport, api: str, place: tuple[str, str, str], deadline: Deadline
) -> FolderNames | None:
    """Return the names in a folder; `place` is repository, commit and folder ("" for the root).

    None where the commit has no such folder. Links count as files; submodules are left out.
    """
    repo, commit, folder = place
    subject = f"{folder_label(folder)} of {repo} at {commit[:7]}"
    path = f"{repo_path(repo)}/contents/{quote_path(folder)}?ref={commit}"
    request = get(api, path, "contents", subject, repo, OBJECT)
    try:
        answer = parse_contents(send_and_read(transport, request, deadline).body, subject)
    except (NotFoundError, AuthError) as error:
        if error.status == 404:
            return None
        raise
    if answer.kind != "dir":
        return None
    kinds = {name: kind for name, kind, _, _ in answer.rows}
    names = {name: kind == "dir" for name, kind in kinds.items() if kind != "submodule"}
    return FolderNames(names, len(answer.rows) >= CONTENTS_LIMIT)


__all__ = ["FolderNames", "RepositoryInfo", "get_repository", "names_in"]
