"""What an identity reaches: an App's installations and their repositories, a user's, and whose a token is.

Asks only; a token that had to be minted for it is ended afterwards. Source: REST docs, "List installations for the authenticated app",
"List repositories accessible to the app installation", "List app installations accessible to the user access token".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Patience
from syncd.errors import AuthError, BadResponseError, SyncdError
from syncd.github.app import Installation
from syncd.github.protocol import Request, Response, Transport, failure, get, one_line, read_json, refusal
from syncd.github.tokens import Token, bearer

A_PAGE = 100
PAGES_AT_MOST = 200

Send = Callable[[Request], Response]


class Reached(Struct, frozen=True):
    """One installation as GitHub describes it. `repositories` are full names; None where `problem` kept us from asking."""

    id: int
    account: str
    selection: str
    permissions: tuple[str, ...]
    suspended: bool = False
    repositories: tuple[str, ...] | None = None
    problem: SyncdError | None = None


class AppReach(Struct, frozen=True):
    slug: str
    id: int
    installations: tuple[Reached, ...]


def app_reach(app: Installation, api: str, plain: Transport, patience: Patience) -> AppReach:
    """The App itself, and everywhere it is installed. Raises AuthError where GitHub does not know the App or its key."""
    request = get(api, "/app", "app", "the App itself", None)
    found = _mapping(request, app.as_app(request, patience), patience)
    listed = _pages(api, "/app/installations", "app", "the App's installations", lambda asked: app.as_app(asked, patience), None, patience)
    return AppReach(one_line(found.get("slug")), _number(found.get("id")), tuple(_with_repositories(app, api, plain, _described(one), patience) for one in listed))


def _with_repositories(app: Installation, api: str, plain: Transport, one: Reached, patience: Patience) -> Reached:
    if one.suspended:
        return one
    try:
        token = app.installation_token(one.id, patience)
        try:
            send = _as(token, plain, patience)
            found = _pages(api, "/installation/repositories", "repositories", f"the repositories of installation {one.id}", send, "repositories", patience)
            return replace(one, repositories=tuple(sorted(one_line(repo.get("full_name")) for repo in found)))
        finally:
            app.end(token, patience)
    except SyncdError as error:  # of this installation; the others are still worth telling
        return replace(one, problem=error)


def user_reach(transport: Transport, api: str, patience: Patience) -> tuple[Reached, ...] | None:
    """The installations that a user's token reaches; None for a token that is not a GitHub App's, of which GitHub tells nothing of the kind."""

    def send(request: Request) -> Response:
        return transport.send(request, patience)

    try:
        listed = list(_pages(api, "/user/installations", "user", "the installations that this user reaches", send, "installations", patience))
    except AuthError as error:
        if error.status != 403:
            raise
        return None
    reached = []
    for one in map(_described, listed):
        found = _pages(api, f"/user/installations/{one.id}/repositories", "user", f"the repositories of installation {one.id}", send, "repositories", patience)
        reached.append(replace(one, repositories=tuple(sorted(one_line(repo.get("full_name")) for repo in found))))
    return tuple(reached)


def whose(transport: Transport, api: str, patience: Patience) -> tuple[str, str | None]:
    """Whose the identity's token is, and the scopes of a classic one. Raises what `failure` makes of a refusal."""
    request = get(api, "/user", "user", "who this token belongs to", None)
    answer = transport.send(request, patience)
    scopes = answer.headers.get("x-oauth-scopes")
    return one_line(_mapping(request, answer, patience).get("login")) or "somebody", scopes


def _as(token: Token, plain: Transport, patience: Patience) -> Send:
    return lambda request: plain.send(bearer(request, token.value), patience)


def _pages(api: str, path: str, route: str, subject: str, send: Send, inside: str | None, patience: Patience) -> Iterator[dict[str, Any]]:
    """Everything of a paged list: a bare array, or the one under `inside`. Pages are counted by us: no address that a server names is followed."""
    for page in range(1, PAGES_AT_MOST + 1):
        request = get(api, f"{path}?per_page={A_PAGE}&page={page}", route, subject, None)
        answer = send(request)
        if answer.status != 200:
            raise failure(request, refusal(answer), patience.clock.now())
        found = read_json(request, answer)
        rows = found if inside is None else found.get(inside) if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadResponseError(f"asked for {subject}, got an answer that is no list of them", hint="check api:")
        yield from rows
        if len(rows) < A_PAGE:
            return


def _mapping(request: Request, answer: Response, patience: Patience) -> dict[str, Any]:
    if answer.status != 200:
        raise failure(request, refusal(answer), patience.clock.now())
    found = read_json(request, answer)
    if not isinstance(found, dict):
        raise BadResponseError(f"asked for {request.subject}, got an answer that does not describe it", hint="check api:")
    return found


def _described(found: dict[str, Any]) -> Reached:
    account, permissions = found.get("account"), found.get("permissions")
    return Reached(
        _number(found.get("id")),
        one_line(account.get("login")) if isinstance(account, dict) else "",
        one_line(found.get("repository_selection")),
        tuple(f"{one_line(name)}: {one_line(level)}" for name, level in sorted(permissions.items())) if isinstance(permissions, dict) else (),
        found.get("suspended_at") is not None,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
