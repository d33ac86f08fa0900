"""What GitHub says of a commit: whether it verified the signature, and whether it follows another one."""

from __future__ import annotations

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, NotFoundError
from syncd.github.protocol import Transport, get, one_line, repo_path
from syncd.github.request import ask
from syncd.github.trees import parse_json

IS_DESCENDANT = {"ahead": True, "identical": True, "behind": False, "diverged": False}


def verification(
    transport: Transport, api: str, repo: str, commit: str, deadline: Deadline
) -> tuple[bool, str]:
    """Whether GitHub marks the commit verified, and its reason. Source: docs, "Get a commit object"."""
    request = get(
        api,
        f"{repo_path(repo)}/git/commits/{commit}",
        "commit",
        f"the signature of {commit[:7]} of {repo}",
        repo,
    )
    found = parse_json(ask(transport, request, deadline).body, request.subject, "commit")
    told = (
        found.get("verification")
        if isinstance(found, dict) and found.get("sha") == commit
        else None
    )
    if not isinstance(told, dict) or not isinstance(told.get("verified"), bool):
        raise BadResponseError(
            f"asked for {request.subject}: the answer does not say whether it is verified",
            hint="require: {verified: true} needs a GitHub that verifies commits",
        )
    return told["verified"], one_line(told.get("reason"))[:60]


def is_descendant(
    transport: Transport, api: str, repo: str, before: str, commit: str, deadline: Deadline
) -> bool:
    """Whether `commit` is `before` or has it among its ancestors. Source: docs, "Compare two commits".

    False as well when GitHub knows no way between them: one of them is gone, or they share nothing.
    """
    path = f"{repo_path(repo)}/compare/{before}...{commit}?per_page=1&page=2"  # the files are on the first page only
    request = get(api, path, "compare", f"how {commit[:7]} of {repo} follows {before[:7]}", repo)
    try:
        found = parse_json(ask(transport, request, deadline).body, request.subject, "compare")
    except NotFoundError:
        return False
    status = found.get("status") if isinstance(found, dict) else None
    if status not in IS_DESCENDANT:
        raise BadResponseError(
            f"asked for {request.subject}: the answer does not say",
            hint="nothing was changed; the next run asks again",
        )
    return IS_DESCENDANT[status]
