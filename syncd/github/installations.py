"""Lists what an identity reaches: installations and their repositories, and the user of a token.

These functions only read; a token that is created for them is revoked afterwards. Source: REST
docs, "List installations for the authenticated app", "List repositories accessible to the app
installation", "List app installations accessible to the user access token".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import AuthError, BadResponseError, SyncdError
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import Token, bearer
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import Request, Response, Transport, get, read_json, server_text

PAGE_SIZE = 100
MAX_PAGES = 200

Send = Callable[[Request], Response]


class InstallationInfo(Struct, frozen=True):
    """One installation as GitHub describes it.

    `repositories` are full names; None where `problem` prevented the request.
    """

    id: int
    account: str
    selection: str
    permissions: tuple[str, ...]
    suspended: bool = False
    repositories: tuple[str, ...] | None = None
    problem: SyncdError | None = None


class AppInfo(Struct, frozen=True):
    """An App, the permissions that it asks for, the account that owns it, and its installations."""

    slug: str
    id: int
    installations: tuple[InstallationInfo, ...]
    permissions: tuple[str, ...] = ()
    owner: str = ""


def get_app_info(app: AppCredentials, api: str, plain: Transport, deadline: Deadline) -> AppInfo:
    """Return the App and its installations, each with its repositories.

    Raises AuthError where GitHub does not know the App or its key.
    """
    found = get_app(app, api, deadline)
    listed = (with_repositories(app, api, plain, one, deadline) for one in found.installations)
    return replace(found, installations=tuple(listed))


def get_app(app: AppCredentials, api: str, deadline: Deadline) -> AppInfo:
    """Return the App and its installations without their repositories, in two requests.

    Raises AuthError where GitHub does not know the App or its key.
    """
    reader = _Reader(api, lambda request: app.send_as_app(request, deadline), deadline)
    found = reader.mapping("/app", "app", "the App itself")[0]
    listed = reader.pages("/app/installations", "app", "the App's installations")
    owner = found.get("owner")
    return AppInfo(
        server_text(found.get("slug")),
        _number(found.get("id")),
        tuple(map(_parse_installation, listed)),
        _granted(found.get("permissions")),
        server_text(owner.get("login")) if isinstance(owner, dict) else "",
    )


def with_repositories(
    app: AppCredentials,
    api: str,
    plain: Transport,
    one: InstallationInfo,
    deadline: Deadline,
    max_pages: int = MAX_PAGES,
) -> InstallationInfo:
    """Return the installation with its repositories, or with the problem that hides them.

    Six parameters: the four of the App and its host, what to read, and how much of it.
    """
    if one.suspended:
        return one
    try:
        token = app.installation_token(one.id, deadline)
        try:
            reader = _Reader(api, _send_with(token, plain, deadline), deadline)
            path = "/installation/repositories"
            names = reader.repositories(path, "repositories", one.id, max_pages)
        finally:
            app.revoke_token(token, deadline)
    except SyncdError as error:  # of this installation; the others are still listed
        return replace(one, problem=error)
    return replace(one, repositories=names)


def list_user_installations(
    transport: Transport, api: str, deadline: Deadline
) -> tuple[InstallationInfo, ...] | None:
    """Return the installations that a user's token reaches.

    None is for a token that is not a GitHub App's: GitHub does not list them for it.
    """
    reader = _Reader(api, lambda request: transport.send(request, deadline), deadline)
    subject = "the installations that this user reaches"
    try:
        listed = list(reader.pages("/user/installations", "user", subject, "installations"))
    except AuthError as error:
        if error.status != 403:
            raise
        return None
    reached = []
    for one in map(_parse_installation, listed):
        names = reader.repositories(f"/user/installations/{one.id}/repositories", "user", one.id)
        reached.append(replace(one, repositories=names))
    return tuple(reached)


def get_authenticated_user(
    transport: Transport, api: str, deadline: Deadline
) -> tuple[str, str | None]:
    """Return the login of the token's user, and the scopes of a classic token.

    Raises what `failure` makes of a refusal.
    """
    reader = _Reader(api, lambda request: transport.send(request, deadline), deadline)
    found, headers = reader.mapping("/user", "user", "who this token belongs to")
    return server_text(found.get("login")) or "an unnamed user", headers.get("x-oauth-scopes")


def list_user_repositories(
    transport: Transport, api: str, deadline: Deadline, max_pages: int = MAX_PAGES
) -> tuple[str, ...]:
    """Return the full names of the repositories that the token's user reaches, sorted.

    Source: REST docs, "List repositories for the authenticated user".
    """
    reader = _Reader(api, lambda request: transport.send(request, deadline), deadline)
    rows = reader.pages(
        "/user/repos", "user", "the repositories that this token reaches", max_pages=max_pages
    )
    return tuple(sorted(server_text(row.get("full_name")) for row in rows))


def _send_with(token: Token, plain: Transport, deadline: Deadline) -> Send:
    return lambda request: plain.send(bearer(request, token.value), deadline)


class _Reader:
    """Reads lists and single values of the API, with one credential."""

    def __init__(self, api: str, send: Send, deadline: Deadline) -> None:
        self._api, self._send, self._deadline = api, send, deadline

    def mapping(
        self, path: str, route: str, subject: str
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return a JSON object and the headers of its answer."""
        request = get(self._api, path, route, subject, None)
        answer = self._succeeded(request)
        found = read_json(request, answer)
        if not isinstance(found, dict):
            raise BadResponseError(
                f"the answer for {subject} does not describe it",
                id="bad_response/no-object",
                hint="check api:",
            )
        return found, answer.headers

    def repositories(
        self, path: str, route: str, installation: int, max_pages: int = MAX_PAGES
    ) -> tuple[str, ...]:
        """Return the full names of an installation's repositories, sorted."""
        subject = f"the repositories of installation {installation}"
        found = self.pages(path, route, subject, "repositories", max_pages)
        return tuple(sorted(server_text(repo.get("full_name")) for repo in found))

    def pages(
        self,
        path: str,
        route: str,
        subject: str,
        inside: str | None = None,
        max_pages: int = MAX_PAGES,
    ) -> Iterator[dict[str, Any]]:
        """Yield everything of a paged list: a bare array, or the one under `inside`.

        The page number is counted here: no address that a server names is followed. Five
        parameters, of which most calls give three.
        """
        for page in range(1, max_pages + 1):
            address = f"{path}?per_page={PAGE_SIZE}&page={page}"
            request = get(self._api, address, route, subject, None)
            rows = read_json(request, self._succeeded(request))
            if inside is not None:
                rows = rows.get(inside) if isinstance(rows, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise BadResponseError(
                    f"the answer for {subject} is not a list of them",
                    id="bad_response/no-list",
                    hint="check api:",
                )
            yield from rows
            if len(rows) < PAGE_SIZE:
                return

    def _succeeded(self, request: Request) -> Response:
        answer = self._send(request)
        if answer.status != 200:
            raise failure(request, parse_error(answer), self._deadline.clock.now())
        return answer


def _parse_installation(found: dict[str, Any]) -> InstallationInfo:
    account = found.get("account")
    return InstallationInfo(
        _number(found.get("id")),
        server_text(account.get("login")) if isinstance(account, dict) else "",
        server_text(found.get("repository_selection")),
        _granted(found.get("permissions")),
        found.get("suspended_at") is not None,
    )


def _granted(permissions: object) -> tuple[str, ...]:
    granted = sorted(permissions.items()) if isinstance(permissions, dict) else ()
    return tuple(f"{server_text(name)}: {server_text(level)}" for name, level in granted)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
