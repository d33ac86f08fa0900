"""What GitHub answers an App and its tokens: who it is, where it is installed, a token, what that token reaches, and its end.

Source: REST docs, "GitHub Apps" and "GitHub App installations"; a renamed repository answers 301 to its number everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from syncd.simulator import responses
from syncd.simulator.accounts import ApiError, Credential
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Repository

if TYPE_CHECKING:
    from syncd.simulator.github import GitHub, SimRequest

Route = tuple[str, Callable[[], Answer]]


def routed(github: GitHub, request: SimRequest, parts: Sequence[str]) -> Route | None:
    """The route of a request that is about Apps, users or their tokens, and what answers it."""
    match parts:
        case ["app"]:
            return "app", lambda: _app(github, request)
        case ["app", "installations"]:
            return "app", lambda: _installations(github, request)
        case ["app", "installations", number, "access_tokens"] if request.method == "POST":
            return "token", lambda: _mint(github, request, number)
        case ["repos", owner, name, "installation"]:
            return "installation", lambda: _installation_of(
                github, request, f"{owner}/{name}".lower()
            )
        case ["repositories", number, "installation"]:
            return "installation", lambda: _covering(
                github,
                request,
                next((repo for repo in github.repos.values() if str(repo.id) == number), None),
            )
        case ["installation", "repositories"]:
            return "installation_repositories", lambda: _repositories(github, request)
        case ["installation", "token"] if request.method == "DELETE":
            return "revoke", lambda: _revoke(request)
        case ["user"]:
            return "user", lambda: _user(request)
        case ["user", "installations"]:
            return "user", lambda: _user_installations(github, request)
        case ["user", "installations", number, "repositories"]:
            return "user", lambda: _user_repositories(github, request, number)
    return None


def _app(github: GitHub, request: SimRequest) -> Answer:
    app = github.accounts.app_of(request.headers.get("authorization", ""), github.now())
    return responses.as_json(
        {
            "id": app.id,
            "slug": app.slug,
            "client_id": app.client_id,
            "permissions": {"contents": "read", "metadata": "read"},
        }
    )


def _installations(github: GitHub, request: SimRequest) -> Answer:
    app = github.accounts.app_of(request.headers.get("authorization", ""), github.now())
    return _paged(
        request,
        [
            _shape(github, one.id)
            for one in github.accounts.installations.values()
            if one.app is app
        ],
    )


def _paged(
    request: SimRequest,
    found: list[dict[str, Any]],
    around: Callable[[list[dict[str, Any]]], object] = list,
) -> Answer:
    """One page of it; the next one is in Link. Source: REST docs, "Using pagination in the REST API"."""
    size, page = min(int(request.query.get("per_page", 30)), 100), int(request.query.get("page", 1))
    answer = responses.as_json(around(found[(page - 1) * size : page * size]))
    if page * size >= len(found):
        return answer
    link = f'<{request.origin}{request.prefix}{request.path}?per_page={size}&page={page + 1}>; rel="next", <{request.origin}{request.prefix}{request.path}?page=99>; rel="last"'
    return Answer(answer.status, {**answer.headers, "link": link}, answer.body)


def _shape(github: GitHub, number: int) -> dict[str, Any]:
    one = github.accounts.installations[number]
    return {
        "id": one.id,
        "app_id": one.app.id,
        "account": {"login": one.account, "type": "Organization"},
        "permissions": one.permissions,
        "repository_selection": "all" if one.repositories is None else "selected",
        "suspended_at": "2026-01-01T00:00:00Z" if one.suspended else None,
    }


def _installation_of(github: GitHub, request: SimRequest, full: str) -> Answer:
    repo = github.repos.get(full)
    if repo is None and full in github.renamed:
        github.accounts.app_of(request.headers.get("authorization", ""), github.now())
        return Answer(
            301,
            {
                "location": f"{request.origin}{request.prefix}/repositories/{github.find_renamed(full).id}/installation"
            },
        )
    return _covering(github, request, repo)


def _covering(github: GitHub, request: SimRequest, repo: Repository | None) -> Answer:
    app = github.accounts.app_of(request.headers.get("authorization", ""), github.now())
    for one in github.accounts.installations.values():
        if one.app is app and repo is not None and one.covers(repo):
            return responses.as_json(_shape(github, one.id))
    raise ApiError(404, "Not Found")


def _mint(github: GitHub, request: SimRequest, number: str) -> Answer:
    app = github.accounts.app_of(request.headers.get("authorization", ""), github.now())
    try:
        body = json.loads(request.body or b"{}")
    except ValueError as error:
        raise ApiError(400, "Problems parsing JSON") from error
    stateless = {"enabled": True, "disabled": False}.get(
        request.headers.get("x-github-stateless-s2s-token", "")
    )  # any other value is ignored
    made, chosen, permissions = github.accounts.create_installation_token(
        app, int(number) if number.isdigit() else -1, body, github.repos, github.now(), stateless
    )
    shape: dict[str, Any] = {
        "token": made.value,
        "expires_at": responses.iso(made.expires),
        "permissions": permissions,
        "repository_selection": "selected" if chosen else "all",
    }
    if chosen:
        shape["repositories"] = [
            {"id": repo.id, "full_name": repo.full_name, "name": repo.name} for repo in chosen
        ]
    return responses.as_json(shape, 201)


def _repositories(github: GitHub, request: SimRequest) -> Answer:
    who = _installation(request.who)
    found = [
        repo
        for repo in github.repos.values()
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
    if who is None or who.installation is None:
        raise ApiError(
            403,
            "Resource not accessible by integration" if who is not None else "Must authenticate",
        )
    return who


def _revoke(request: SimRequest) -> Answer:
    _installation(request.who).revoked = True
    return Answer(204)


def _person(who: Credential | None) -> Credential:
    if who is None:
        raise ApiError(401, "Requires authentication")
    if who.kind == "installation":
        raise ApiError(403, "Resource not accessible by integration")
    return who


def _user(request: SimRequest) -> Answer:
    return responses.as_json({"login": _person(request.who).login, "id": 7, "type": "User"})


def _user_installations(github: GitHub, request: SimRequest) -> Answer:
    """Only for a user token of a GitHub App. Source: REST docs, "List app installations accessible to the user access token"."""
    who = _person(request.who)
    if who.client_id is None or who.client_id not in github.accounts.apps:
        raise ApiError(
            403,
            "You must authenticate with an access token authorized to a GitHub App in order to list installations",
        )
    app = github.accounts.apps[who.client_id]
    found = [
        _shape(github, one.id) for one in github.accounts.installations.values() if one.app is app
    ]
    return _paged(request, found, lambda page: {"total_count": len(found), "installations": page})


def _user_repositories(github: GitHub, request: SimRequest, number: str) -> Answer:
    _person(request.who)
    one = github.accounts.installations.get(int(number) if number.isdigit() else -1)
    if one is None:
        raise ApiError(404, "Not Found")
    found = [_repo_shape(repo) for repo in github.repos.values() if one.covers(repo)]
    return _paged(request, found, lambda page: {"total_count": len(found), "repositories": page})
