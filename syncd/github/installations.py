"""What an identity reaches: an App's installations and their repositories, a user's, and whose a token is.

Asks only; a token that had to be minted for it is ended afterwards. Source: REST docs, "List installations for the authenticated app",
"List repositories accessible to the app installation", "List app installations accessible to the user access token".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import AuthError, BadResponseError, SyncdError
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import Token, bearer
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import Request, Response, Transport, get, one_line, read_json

PAGE_SIZE = 100
MAX_PAGES = 200

Send = Callable[[Request], Response]


class InstallationInfo(Struct, frozen=True):
    """One installation as GitHub describes it. `repositories` are full names; None where `problem` kept us from asking."""

    id: int
    account: str
    selection: str
    permissions: tuple[str, ...]
    suspended: bool = False
    repositories: tuple[str, ...] | None = None
    problem: SyncdError | None = None


class AppInfo(Struct, frozen=True):
    slug: str
    id: int
    installations: tuple[InstallationInfo, ...]


def get_app_info(app: AppCredentials, api: str, plain: Transport, deadline: Deadline) -> AppInfo:
    """The App itself, and everywhere it is installed. Raises AuthError where GitHub does not know the App or its key."""
    request = get(api, "/app", "app", "the App itself", None)
    found = _get_mapping(request, app.send_as_app(request, deadline), deadline)
    listed = _pages(
        api,
        "/app/installations",
        "app",
        "the App's installations",
        lambda asked: app.send_as_app(asked, deadline),
        None,
        deadline,
    )
    return AppInfo(
        one_line(found.get("slug")),
        _number(found.get("id")),
        tuple(
            _with_repositories(app, api, plain, _parse_installation(one), deadline)
            for one in listed
        ),
    )


def _with_repositories(
    app: AppCredentials, api: str, plain: Transport, one: InstallationInfo, deadline: Deadline
) -> InstallationInfo:
    if one.suspended:
        return one
    try:
        token = app.installation_token(one.id, deadline)
        try:
            send = _send_with(token, plain, deadline)
            found = _pages(
                api,
                "/installation/repositories",
                "repositories",
                f"the repositories of installation {one.id}",
                send,
                "repositories",
                deadline,
            )
            return replace(
                one, repositories=tuple(sorted(one_line(repo.get("full_name")) for repo in found))
            )
        finally:
            app.revoke_token(token, deadline)
    except SyncdError as error:  # of this installation; the others are still worth telling
        return replace(one, problem=error)


def list_user_installations(
    transport: Transport, api: str, deadline: Deadline
) -> tuple[InstallationInfo, ...] | None:
    """The installations that a user's token reaches; None for a token that is not a GitHub App's, of which GitHub tells nothing of the kind."""

    def send(request: Request) -> Response:
        return transport.send(request, deadline)

    try:
        listed = list(
            _pages(
                api,
                "/user/installations",
                "user",
                "the installations that this user reaches",
                send,
                "installations",
                deadline,
            )
        )
    except AuthError as error:
        if error.status != 403:
            raise
        return None
    reached = []
    for one in map(_parse_installation, listed):
        found = _pages(
            api,
            f"/user/installations/{one.id}/repositories",
            "user",
            f"the repositories of installation {one.id}",
            send,
            "repositories",
            deadline,
        )
        reached.append(
            replace(
                one, repositories=tuple(sorted(one_line(repo.get("full_name")) for repo in found))
            )
        )
    return tuple(reached)


def get_authenticated_user(
    transport: Transport, api: str, deadline: Deadline
) -> tuple[str, str | None]:
    """Whose the identity's token is, and the scopes of a classic one. Raises what `failure` makes of a refusal."""
    request = get(api, "/user", "user", "who this token belongs to", None)
    answer = transport.send(request, deadline)
    scopes = answer.headers.get("x-oauth-scopes")
    return one_line(_get_mapping(request, answer, deadline).get("login")) or "somebody", scopes


def _send_with(token: Token, plain: Transport, deadline: Deadline) -> Send:
    return lambda request: plain.send(bearer(request, token.value), deadline)


def _pages(
    api: str,
    path: str,
    route: str,
    subject: str,
    send: Send,
    inside: str | None,
    deadline: Deadline,
) -> Iterator[dict[str, Any]]:
    """Everything of a paged list: a bare array, or the one under `inside`. Pages are counted by us: no address that a server names is followed."""
    for page in range(1, MAX_PAGES + 1):
        request = get(api, f"{path}?per_page={PAGE_SIZE}&page={page}", route, subject, None)
        answer = send(request)
        if answer.status != 200:
            raise failure(request, parse_error(answer), deadline.clock.now())
        found = read_json(request, answer)
        rows = found if inside is None else found.get(inside) if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadResponseError(
                f"asked for {subject}, got an answer that is no list of them", hint="check api:"
            )
        yield from rows
        if len(rows) < PAGE_SIZE:
            return


def _get_mapping(request: Request, answer: Response, deadline: Deadline) -> dict[str, Any]:
    if answer.status != 200:
        raise failure(request, parse_error(answer), deadline.clock.now())
    found = read_json(request, answer)
    if not isinstance(found, dict):
        raise BadResponseError(
            f"asked for {request.subject}, got an answer that does not describe it",
            hint="check api:",
        )
    return found


def _parse_installation(found: dict[str, Any]) -> InstallationInfo:
    account, permissions = found.get("account"), found.get("permissions")
    return InstallationInfo(
        _number(found.get("id")),
        one_line(account.get("login")) if isinstance(account, dict) else "",
        one_line(found.get("repository_selection")),
        tuple(f"{one_line(name)}: {one_line(level)}" for name, level in sorted(permissions.items()))
        if isinstance(permissions, dict)
        else (),
        found.get("suspended_at") is not None,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
