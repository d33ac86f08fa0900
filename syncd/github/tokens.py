"""Who we are to GitHub: personal tokens, nobody, and App installations, all as one shape.

Promises: a token lives in memory alone, is narrowed to `contents: read` and to the configured repositories, is minted once however
many threads want it, renewed before it dies on either clock, and replaced once when GitHub refuses it.
Source: docs "Generating a JWT", "Create an installation access token for an app"; refusals in github/protocol.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from syncd.clock import Clock, Patience
from syncd.errors import AuthError, BadResponseError, ConfigError, SyncdError
from syncd.github.protocol import JSON_CAP, SKEW_TEXTS, Request, Response, Transport, date_of, failure, get, post, read_json, refusal, repo_path
from syncd.models import Secret
from syncd.redact import remember

RENEW_EARLY = timedelta(minutes=5)
BACKDATE_SECONDS = 60  # docs: protects against clock drift
JWT_SECONDS = 540  # at most 600 ahead of GitHub's clock
FRESH_SECONDS = 10.0  # a token this young may not have reached every server yet
FRESH_WAITS = (1.0, 2.0, 3.0, 3.0)
REFUSED_SECONDS = 60.0  # a refused grant is not asked for again sooner: a storm of jobs must not become a storm of mints
REPOSITORIES_A_TOKEN = 500


@dataclass(frozen=True)
class Token:
    """One credential. `born` and `dies` are on the monotonic clock, which a stepped wall clock or a sleeping laptop can't fool alone."""

    value: Secret = field(repr=False)
    expires_at: datetime | None = None
    born: float = 0.0
    dies: float = float("inf")

    def usable_at(self, now: datetime, monotonic: float) -> bool:
        early = RENEW_EARLY.total_seconds()
        return (self.expires_at is None or now < self.expires_at - RENEW_EARLY) and monotonic < self.dies - early


class Credentials(Protocol):
    """One TokenSource shape for every kind of identity."""

    def token_for(self, repo: str | None, patience: Patience) -> Token | None:
        """The token for a request about `repo`; None to go without."""

    def reject(self, repo: str | None, token: Token) -> bool:
        """Forget a token that GitHub refused; True when asking again may give another one."""


class Anonymous:
    def token_for(self, repo: str | None, patience: Patience) -> Token | None:
        return None

    def reject(self, repo: str | None, token: Token) -> bool:
        return False


class PersonalToken:
    def __init__(self, value: Secret) -> None:
        remember(value)
        self._token = Token(value)

    def token_for(self, repo: str | None, patience: Patience) -> Token | None:
        return self._token

    def reject(self, repo: str | None, token: Token) -> bool:
        return False


@dataclass(frozen=True)
class Grant:
    """What one installation token is for: an installation and the names of repositories it is narrowed to."""

    installation: int
    repositories: tuple[str, ...]


class Installation:
    """The tokens of one GitHub App identity. `transport` goes without credentials; `repos` are all that the configuration names."""

    def __init__(self, api: str, issuer: str, key: Secret, installation_id: int | None, repos: Iterable[str], transport: Transport, clock: Clock) -> None:
        remember(key)
        self._api, self._issuer, self._key, self._given = api, issuer, key, installation_id
        self._repos = sorted({repo.lower() for repo in repos})
        self._transport, self._clock = transport, clock
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[Grant, Token] = {}
        self._refused: dict[Grant | str, tuple[float, SyncdError]] = {}
        self._found: dict[str, int] = {}
        self._alone: set[int] = set()  # installations where a narrowing to several repositories was refused
        self.offset_seconds = 0.0  # server clock minus ours, once it mattered

    def token_for(self, repo: str | None, patience: Patience) -> Token | None:
        if repo is None:
            raise ConfigError("an App's token is always for a repository")
        with self._lock_for(repo.partition("/")[0].lower()):
            grant = self._grant(repo.lower(), patience)
            token = self._tokens.get(grant)
            if token is not None and token.usable_at(self._server_now(), self._clock.monotonic()):
                return token
            return self._renew(grant, repo, patience)

    def reject(self, repo: str | None, token: Token) -> bool:
        """If somebody has renewed it already, theirs stays."""
        with self._guard:
            for grant, held in list(self._tokens.items()):
                if held == token:
                    del self._tokens[grant]
        return True

    def _renew(self, grant: Grant, repo: str, patience: Patience) -> Token:
        self._raise_if_refused(grant)
        try:
            token = self._mint(grant, patience)
        except AuthError as error:
            if error.status == 422 and len(grant.repositories) > 1:
                self._alone.add(grant.installation)  # one wrong name must fail only its own jobs
                return self._renew(Grant(grant.installation, (repo.lower().partition("/")[2],)), repo, patience)
            self._refused[grant] = (self._clock.monotonic() + REFUSED_SECONDS, error)
            raise
        self._tokens[grant] = token
        return token

    def _grant(self, repo: str, patience: Patience) -> Grant:
        owner, _, name = repo.partition("/")
        installation = self._given if self._given is not None else self._look_up(repo, patience)
        if installation in self._alone:
            return Grant(installation, (name,))
        names = [other.partition("/")[2] for other in self._repos if other.partition("/")[0] == owner]
        if name not in names:
            return Grant(installation, (name,))
        at = names.index(name) // REPOSITORIES_A_TOKEN * REPOSITORIES_A_TOKEN
        return Grant(installation, tuple(names[at : at + REPOSITORIES_A_TOKEN]))

    def _look_up(self, repo: str, patience: Patience) -> int:
        """The installation that covers the repository. Cached by owner: an App is installed on an account once."""
        owner = repo.partition("/")[0]
        if owner in self._found:
            return self._found[owner]
        self._raise_if_refused(repo)
        request = get(self._api, repo_path(repo) + "/installation", "installation", f"the App's installation on {repo}", repo)
        try:
            answer = self._as_app(request, patience)
        except AuthError as error:
            self._refused[repo] = (self._clock.monotonic() + REFUSED_SECONDS, error)
            raise
        found = read_json(request, answer)
        identity = found.get("id") if isinstance(found, dict) else None
        if not isinstance(identity, int) or isinstance(identity, bool):
            raise AuthError(f"the App's installation on {repo} is ambiguous: GitHub's answer names no single one", state="installation", hint="set installation_id: in the identity")
        account = found.get("account")
        login = account.get("login") if isinstance(account, dict) else None
        if isinstance(login, str) and login.lower() != owner and found.get("app_id") is None:
            raise AuthError(f"the App's installation on {repo} is ambiguous: the answer is about {login}", state="installation", hint="set installation_id: in the identity")
        self._found[owner] = identity
        return identity

    def _mint(self, grant: Grant, patience: Patience) -> Token:
        body = {"permissions": {"contents": "read"}, "repositories": list(grant.repositories)}
        request = post(self._api, f"/app/installations/{grant.installation}/access_tokens", "token", f"a token of installation {grant.installation}", body)
        answer = self._as_app(request, patience)
        server = date_of(answer.headers)
        found = read_json(request, answer)
        try:
            value, expires_at = Secret(found["token"]), datetime.fromisoformat(found["expires_at"])
            lifetime = (expires_at - (server or self._server_now())).total_seconds()
        except (TypeError, KeyError, ValueError) as error:
            raise BadResponseError("asked for an installation token, got an answer without one", hint="check api:") from error
        if not found["token"] or not isinstance(found["token"], str):
            raise BadResponseError("asked for an installation token, got an empty one", hint="check api:")
        remember(value)
        now = self._clock.monotonic()
        return Token(value, expires_at, now, now + lifetime)

    def _as_app(self, request: Request, patience: Patience) -> Response:
        """The answer to a request signed as the App. A refusal that speaks of clocks is measured from Date, corrected and tried once more."""
        for again in (False, True):
            answer = self._transport.send(replace(request, headers={**request.headers, "Authorization": f"Bearer {self._jwt()}"}), patience)
            if answer.status in (200, 201):
                return answer
            found = refusal(answer)
            server = date_of(found.headers)
            if found.status == 401 and found.message in SKEW_TEXTS and server is not None and not again:
                self.offset_seconds = float(round((server - self._clock.now()).total_seconds()))
                continue
            raise failure(request, found, self._clock.now())
        raise AssertionError("unreachable")

    def _jwt(self) -> str:
        import jwt  # 95 ms of imports that a run with a living token never needs

        now = int(self._server_now().timestamp())
        try:
            text = jwt.encode({"iat": now - BACKDATE_SECONDS, "exp": now + JWT_SECONDS, "iss": self._issuer}, self._key.reveal(), algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise AuthError("the private key can't sign: it is not an unencrypted RSA key in PEM form", state="key", hint="run: syncd check") from error
        remember(Secret(text))
        return text

    def _server_now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self.offset_seconds)

    def _raise_if_refused(self, what: Grant | str) -> None:
        until, error = self._refused.get(what, (0.0, None))
        if error is not None and self._clock.monotonic() < until:
            raise error
        self._refused.pop(what, None)

    def _lock_for(self, owner: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(owner, threading.Lock())


class Authorised:
    """Sends each request with the credential for its repository. A refused token is dropped and asked for anew once; a token too
    young to be known everywhere is tried again for some seconds first."""

    def __init__(self, inner: Transport, credentials: Credentials, clock: Clock) -> None:
        self._inner, self._credentials, self._clock = inner, credentials, clock

    def send(self, request: Request, patience: Patience) -> Response:
        if not request.authorised:
            return self._inner.send(request, patience)
        replaced = False
        while True:
            token = self._credentials.token_for(request.repo, patience)
            answer = self._with_token(request, token, patience)
            if answer.status != 401 or token is None or replaced or not self._credentials.reject(request.repo, token):
                return answer
            answer.close()
            replaced = True

    def _with_token(self, request: Request, token: Token | None, patience: Patience) -> Response:
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token.value.reveal()}"
        sent = replace(request, headers=headers)
        answer = self._inner.send(sent, patience)
        for wait in FRESH_WAITS:
            young = token is not None and token.expires_at is not None and self._clock.monotonic() - token.born < FRESH_SECONDS
            if not young or not (answer.status == 401 or (answer.status == 403 and _is_permission(answer))):
                break
            answer.close()
            patience.wait(wait)
            answer = self._inner.send(sent, patience)
        return answer


def _is_permission(answer: Response) -> bool:
    """A 403 that is no limit, as far as its headers tell."""
    return answer.headers.get("x-ratelimit-remaining") != "0" and "retry-after" not in answer.headers


__all__ = ["JSON_CAP", "Anonymous", "Authorised", "Credentials", "Grant", "Installation", "PersonalToken", "Token"]
