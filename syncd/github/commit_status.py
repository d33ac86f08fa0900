"""Sets the status of a commit. The only write that syncd makes at GitHub.

Source: REST docs, "Create a commit status": 201, with `statuses: write`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.github.attempts import Attempts
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import Transport, post, repo_path

CREATED = 201


def set_status(
    transport: Transport, api: str, status: Mapping[str, str], deadline: Deadline
) -> None:
    """Set the status, with one attempt: the outbox tries again.

    `status` has `repo`, `commit`, `state`, `context` and `description`. Raises what `failure` makes
    of a refusal, and RemoteUnavailableError.
    """
    repo, commit = status["repo"], status["commit"]
    body = {name: status[name] for name in ("state", "context", "description")}
    path = f"{repo_path(repo)}/statuses/{commit}"
    request = post(api, path, "status", f"the status of {commit[:7]} of {repo}", body)
    request = replace(request, repo=repo, attempts=Attempts(tries=1))
    answer = transport.send(request, deadline)
    try:
        if answer.status != CREATED:
            raise failure(request, parse_error(answer), _now(deadline))
    finally:
        answer.close()


def _now(deadline: Deadline) -> datetime:
    return deadline.clock.now()
