"""What GitHub says of a commit: its author and message, whether its signature is verified, and
whether it follows another commit.
"""

from __future__ import annotations

from typing import Any

from syncd.errors import BadResponseError, NotFoundError
from syncd.github.json_body import parse_json
from syncd.github.protocol import server_text
from syncd.github.request import send_and_read
from syncd.github.scope import RepositoryScope
from syncd.models import CommitSummary

IS_DESCENDANT = {"ahead": True, "identical": True, "behind": False, "diverged": False}
MAX_REASON_LENGTH = 60


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
