"""The API for Apps, users and their tokens.

It tells an App its installations, creates a token, lists what the token reaches, and ends it.
Source: REST docs, "GitHub Apps" and "GitHub App installations"; a renamed repository answers 301 to
its number everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from syncd.simulator import responses
from syncd.simulator.accounts import ApiError, App, Credential, SimInstallation
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Repository
from syncd.simulator.request import Route, SimRequest
from syncd.simulator.state import SimDelivery, SimulatorState

STATELESS_HEADER = "x-github-stateless-s2s-token"
NOT_A_GITHUB_APP_TEXT = (
    "You must authenticate with an access token authorized to a GitHub App "
    "in order to list installations"
)


def route(state: SimulatorState, request: SimRequest, parts: Sequence[str]) -> Route | None:
    """Return the route of a request about Apps, users or their tokens, and what answers it."""
    match parts:
        case ["app"]:
            return "app", lambda: _app(state, request)
        case ["app", "hook", "deliveries"]:
            return "deliveries", lambda: _deliveries(state, request)
        case ["app", "installations"]:
            return "app", lambda: _installations(state, request)
        case ["app", "installations", number, "access_tokens"] if request.method == "POST":
            return "token", lambda: _create_token(state, request, number)
        case ["repos", owner, name, "installation"]:
            full_name = f"{owner}/{name}".lower()
            return "installation", lambda: _installation_of(state, request, full_name)
        case ["repositories", number, "installation"]:
            repo = state.repo_by_id(number)
            return "installation", lambda: _covering(state, request, repo)
        case ["installation", "repositories"]:
            return "installation_repositories", lambda: _repositories(state, request)
        case ["installation", "token"] if request.method == "DELETE":
            return "revoke", lambda: _revoke(request)
        case ["user"]:
            return "user", lambda: _user(request)
        case ["user", "repos"]:
            return "user", lambda: _own_repositories(state, request)
        case ["user", "installations"]:
            return "user", lambda: _user_installations(state, request)
        case ["user", "installations", number, "repositories"]:
            return "user", lambda: _user_repositories(state, request, number)
    return None


def _authenticated_app(state: SimulatorState, request: SimRequest) -> App:
    return state.accounts.app_of(request.authorization, state.now())


def _app(state: SimulatorState, request: SimRequest) -> Answer:
    app = _authenticated_app(state, request)
    return responses.as_json(
        {
            "id": app.id,
            "slug": app.slug,
            "client_id": app.client_id,
            "owner": {"login": app.owner, "type": "Organization"},
            "permissions": {"contents": "read", "metadata": "read"},
        }
    )


def _installations(state: SimulatorState, request: SimRequest) -> Answer:
    return _paged(request, _installations_of(state, _authenticated_app(state, request)))


def _installations_of(state: SimulatorState, app: App) -> list[dict[str, Any]]:
    return [_shape(one) for one in state.accounts.installations.values() if one.app is app]


def _paged(
    request: SimRequest,
    found: list[dict[str, Any]],
    around: Callable[[list[dict[str, Any]]], object] = list,
) -> Answer:
    """Return one page of a list; the address of the next page is in Link.

    Source: REST docs, "Using pagination in the REST API".
    """
    size = min(int(request.query.get("per_page", 30)), 100)
    page = int(request.query.get("page", 1))
    answer = responses.as_json(around(found[(page - 1) * size : page * size]))
    if page * size >= len(found):
        return answer
    address = request.url(request.path)
    following = f'<{address}?per_page={size}&page={page + 1}>; rel="next"'
    last = f'<{address}?page=99>; rel="last"'
    headers = {**answer.headers, "link": f"{following}, {last}"}
    return Answer(answer.status, headers, answer.body)


def _deliveries(state: SimulatorState, request: SimRequest) -> Answer:
    """List what the App's webhook got, the newest first; a cursor in Link leads to the next page.

    Source: REST docs, "List deliveries for an app webhook".
    """
    app, query = _authenticated_app(state, request), request.query
    found = [one for one in reversed(state.deliveries) if one.app_id == app.id]
    cursor = query.get("cursor", "").removeprefix("v1_")
    if cursor.isdigit():
        found = [one for one in found if one.id <= int(cursor)]
    size = min(int(query.get("per_page", 30)), 100)
    answer = responses.as_json([_delivery_shape(one) for one in found[:size]])
    if len(found) <= size:
        return answer
    address = f"{request.url(request.path)}?per_page={size}&cursor=v1_{found[size].id}"
    return Answer(
        answer.status, {**answer.headers, "link": f'<{address}>; rel="next"'}, answer.body
    )


def _delivery_shape(one: SimDelivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "guid": one.guid,
        "delivered_at": responses.github_time(one.at),
        "redelivery": False,
        "duration": 0.27,
        "status": one.status,
        "status_code": one.status_code,
        "event": one.event,
        "action": None,
        "installation_id": one.installation_id,
        "repository_id": one.repository_id,
        "throttled_at": None,
    }


def _shape(one: SimInstallation) -> dict[str, Any]:
    return {
        "id": one.id,
        "app_id": one.app.id,
        "account": {"login": one.account, "type": "Organization"},
        "permissions": one.permissions,
        "repository_selection": "all" if one.repositories is None else "selected",
        "suspended_at": "2026-01-01T00:00:00Z" if one.suspended else None,
    }


def _installation_of(state: SimulatorState, request: SimRequest, full_name: str) -> Answer:
    repo = state.repos.get(full_name)
    if repo is None and full_name in state.renamed:
        _authenticated_app(state, request)
        number = state.find_renamed(full_name).id
        return responses.redirect(301, request.url(f"/repositories/{number}/installation"))
    return _covering(state, request, repo)


def _covering(state: SimulatorState, request: SimRequest, repo: Repository | None) -> Answer:
    app = _authenticated_app(state, request)
    for one in state.accounts.installations.values():
        if one.app is app and repo is not None and one.covers(repo):
            return responses.as_json(_shape(one))
    raise ApiError(404, "Not Found")


def _create_token(state: SimulatorState, request: SimRequest, number: str) -> Answer:
    app = _authenticated_app(state, request)
    try:
        body = json.loads(request.body or b"{}")
    except ValueError as error:
        raise ApiError(400, "Problems parsing JSON") from error
    # any other value of the header is ignored
    wish = request.headers.get(STATELESS_HEADER, "")
    stateless = {"enabled": True, "disabled": False}.get(wish)
    installation_id = int(number) if number.isdigit() else -1
    made, chosen, permissions = state.accounts.create_installation_token(
        app, installation_id, body, state.repos, state.now(), stateless
    )
    shape: dict[str, Any] = {
        "token": made.value,
        "expires_at": responses.github_time(made.expires),
        "permissions": permissions,
        "repository_selection": "selected" if chosen else "all",
    }
    if chosen:
        shape["repositories"] = [
            {"id": repo.id, "full_name": repo.full_name, "name": repo.name} for repo in chosen
        ]
    return responses.as_json(shape, 201)


def _repositories(state: SimulatorState, request: SimRequest) -> Answer:
    who = _installation(request.who)
    found = [
        repo
        for repo in state.repos.values()
        if who.installation is not None
        and who.installation.covers(repo)
        and (who.repository_ids is None or repo.id in who.repository_ids)
    ]
    return _paged(
        request,
        [_repo_shape(repo) for repo in found],
        lambda page: {
            "total_count": len(found),
            "repository_selection": "selected",
            "repositories": page,
        },
    )


def _repo_shape(repo: Repository) -> dict[str, Any]:
    return {"id": repo.id, "full_name": repo.full_name, "private": repo.private}


def _installation(who: Credential | None) -> Credential:
    """Return the credential of an installation. Raises ApiError for any other."""
    if who is None:
        raise ApiError(403, "Must authenticate")
    if who.installation is None:
        raise ApiError(403, "Resource not accessible by integration")
    return who


def _revoke(request: SimRequest) -> Answer:
    _installation(request.who).revoked = True
    return Answer(204)


def _person(who: Credential | None) -> Credential:
    """Return the credential of a user. Raises ApiError for any other."""
    if who is None:
        raise ApiError(401, "Requires authentication")
    if who.kind == "installation":
        raise ApiError(403, "Resource not accessible by integration")
    return who


def _user(request: SimRequest) -> Answer:
    return responses.as_json({"login": _person(request.who).login, "id": 7, "type": "User"})


def _own_repositories(state: SimulatorState, request: SimRequest) -> Answer:
    who = _person(request.who)
    found = [repo for repo in state.repos.values() if state.accounts.can_read(who, repo)]
    return _paged(request, [_repo_shape(repo) for repo in found])


def _user_installations(state: SimulatorState, request: SimRequest) -> Answer:
    """List the installations that a user token of a GitHub App reaches; other tokens are refused.

    Source: REST docs, "List app installations accessible to the user access token".
    """
    who = _person(request.who)
    if who.client_id is None or who.client_id not in state.accounts.apps:
        raise ApiError(403, NOT_A_GITHUB_APP_TEXT)
    found = _installations_of(state, state.accounts.apps[who.client_id])
    return _paged(request, found, lambda page: {"total_count": len(found), "installations": page})


def _user_repositories(state: SimulatorState, request: SimRequest, number: str) -> Answer:
    _person(request.who)
    one = state.accounts.installations.get(int(number) if number.isdigit() else -1)
    if one is None:
        raise ApiError(404, "Not Found")
    found = [_repo_shape(repo) for repo in state.repos.values() if one.covers(repo)]
    return _paged(request, found, lambda page: {"total_count": len(found), "repositories": page})
