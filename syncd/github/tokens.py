"""Who we are to GitHub: personal tokens, nobody, and App installations, all as one shape.

Promises: a token lives in memory alone, is narrowed to `contents: read` and to the configured repositories, is minted once however
many threads want it, renewed before it dies on either clock, and replaced once when GitHub refuses it.
Source: docs "Generating a JWT", "Create an installation access token for an app"; refusals in github/protocol.py.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from syncd.clock import Clock, Patience
from syncd.errors import AuthError, BadResponseError, ConfigError, SyncdError
from syncd.github.protocol import SKEW_TEXTS, Request, Response, Transport, date_of, failure, get, known, post, read_json, refusal, repo_path
from syncd.models import Secret
from syncd.redact import remember

log = logging.getLogger(__name__)

RENEW_EARLY_SECONDS = 300.0
BACKDATE_SECONDS = 60  # docs: protects against clock drift
JWT_SECONDS = 540  # at most 600 ahead of GitHub's clock
FRESH_SECONDS = 10.0  # a token this young may not have reached every server yet
FRESH_WAITS = (1.0, 2.0, 3.0, 3.0)
REFUSED_SECONDS = 60.0  # a refused grant is not asked for again sooner: a storm of jobs must not become a storm of mints
REPOSITORIES_A_TOKEN = 500
LOOK_UP_SECONDS = 0.5  # how soon somebody who waits for another's mint notices a signal


@dataclass(frozen=True)
class Token:
    """One credential. `born` and `dies` are on the monotonic clock, which a stepped wall clock or a sleeping laptop can't fool alone."""

    value: Secret = field(repr=False)
    expires_at: datetime | None = None
    born: float = 0.0
    dies: float = float("inf")

    def usable_at(self, now: datetime, monotonic: float) -> bool:
        """Alive on both clocks, and not so near its end that a long answer would outlive it: 5 minutes, less for a short life."""
        early = min(RENEW_EARLY_SECONDS, (self.dies - self.born) / 4)
        return (self.expires_at is None or now < self.expires_at - timedelta(seconds=early)) and monotonic < self.dies - early


def presentable(value: str) -> bool:
    """Can it stand in a header? Nothing else is known of a token: neither its length nor its letters."""
    return bool(value) and all("!" <= letter <= "~" for letter in value)


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
    """Raises ConfigError for a text that can't be a token; it is not shown."""

    def __init__(self, value: Secret) -> None:
        if not presentable(value.reveal()):
            raise ConfigError("the token is empty, or holds a space, a line end or another character that no token has", hint="write the token alone into its file or variable")
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
        self._replaced: dict[Grant, float] = {}
        self._found: dict[str, int] = {}
        self._alone: set[int] = set()  # installations where a narrowing to several repositories was refused
        self.offset_seconds = 0.0  # server clock minus ours, once it mattered

    def token_for(self, repo: str | None, patience: Patience) -> Token | None:
        if repo is None:
            raise ConfigError("an App's token is always for a repository")
        with self._turn(repo.partition("/")[0].lower(), patience):
            grant = self._grant(repo.lower(), patience)
            token = self._tokens.get(grant)
            if token is not None and token.usable_at(self._server_now(), self._clock.monotonic()):
                return token
            return self._renew(grant, repo, patience)

    def reject(self, repo: str | None, token: Token) -> bool:
        """If somebody has renewed it already, theirs stays. One that replaced a refused one less than a minute ago stays too:
        where GitHub refuses whatever it hands out, another would not help."""
        with self._guard:
            now = self._clock.monotonic()
            for grant, held in list(self._tokens.items()):
                if held == token:
                    if now - self._replaced.get(grant, float("-inf")) < REFUSED_SECONDS:
                        return False
                    self._replaced[grant] = now
                    del self._tokens[grant]
        return True

    def _renew(self, grant: Grant, repo: str, patience: Patience) -> Token:
        self._raise_if_refused(grant)
        try:
            token = self._mint(grant, repo, patience)
        except AuthError as error:
            if error.state == "grant" and len(grant.repositories) > 1:
                self._alone.add(grant.installation)  # one wrong name must fail only its own jobs
                return self._renew(Grant(grant.installation, (repo.lower().partition("/")[2],)), repo, patience)
            if error.state == "installation":  # removed, perhaps installed anew under another id
                with self._guard:  # other owners' turns go on meanwhile
                    self._found = {where: found for where, found in self._found.items() if found != grant.installation}
            self._refused[grant] = (self._clock.monotonic() + REFUSED_SECONDS, error)
            raise
        with self._guard:
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
        """The installation that covers the repository, by GitHub's word. Cached by owner: an App is installed on an account once."""
        owner = repo.partition("/")[0]
        for where in (owner, repo):
            if where in self._found:
                return self._found[where]
        self._raise_if_refused(repo)
        request = get(self._api, repo_path(repo) + "/installation", "installation", f"the App's installation on {repo}", repo)
        try:
            found = read_json(request, self._as_app(request, patience))
            identity = found.get("id") if isinstance(found, dict) else None
            if not isinstance(identity, int) or isinstance(identity, bool):
                raise AuthError(f"the App's installation on {repo} is ambiguous: GitHub's answer names no single one", state="installation", hint="set installation_id: in the identity")
        except AuthError as error:
            self._refused[repo] = (self._clock.monotonic() + REFUSED_SECONDS, error)
            raise
        account = found.get("account")
        login = account.get("login") if isinstance(account, dict) else None
        moved = isinstance(login, str) and login.lower() != owner  # then it says nothing about the owner's other repositories
        with self._guard:
            self._found[repo if moved else owner] = identity
        return identity

    def _mint(self, grant: Grant, repo: str, patience: Patience) -> Token:
        body = {"permissions": {"contents": "read"}, "repositories": list(grant.repositories)}
        names = repo if len(grant.repositories) == 1 else f"{len(grant.repositories)} repositories with {repo}"
        request = post(self._api, f"/app/installations/{grant.installation}/access_tokens", "token", f"a token of installation {grant.installation} for {names}", body)
        answer = self._as_app(request, patience)
        server = date_of(answer.headers)
        found = read_json(request, answer)
        try:
            value, expires_at = found["token"], datetime.fromisoformat(found["expires_at"])
            lifetime = (expires_at - (server or self._server_now())).total_seconds()
        except (TypeError, KeyError, ValueError) as error:
            raise BadResponseError("asked for an installation token, got an answer without one", hint="check api:") from error
        if not isinstance(value, str) or not presentable(value) or lifetime <= 0:
            raise BadResponseError("asked for an installation token, got one that can't be used", hint="check api:")
        secret = Secret(value)
        remember(secret, lasting=False)
        now = self._clock.monotonic()
        return Token(secret, expires_at, now, now + lifetime)

    def _as_app(self, request: Request, patience: Patience) -> Response:
        """The answer to a request signed as the App. A refusal that speaks of clocks is measured from Date, corrected and tried once more."""
        answer = self._signed(request, patience)
        if answer.status == 401:
            answer = known(answer)
            server = date_of(answer.headers)
            if server is not None and any(text in refusal(answer).message for text in SKEW_TEXTS):
                self.offset_seconds = float(round((server - self._clock.now()).total_seconds()))
                log.warning("this machine's clock is %.0f s off GitHub's; syncd reckons with it, but set up NTP", -self.offset_seconds)
                answer = self._signed(request, patience)
        if answer.status not in (200, 201):
            raise failure(request, refusal(answer), self._clock.now())
        return answer

    def _signed(self, request: Request, patience: Patience) -> Response:
        return self._transport.send(replace(request, headers={**request.headers, "Authorization": f"Bearer {self._jwt()}"}), patience)

    def _jwt(self) -> str:
        import jwt  # 95 ms of imports that a run with a living token never needs

        now = int(self._server_now().timestamp())
        try:
            text = jwt.encode({"iat": now - BACKDATE_SECONDS, "exp": now + JWT_SECONDS, "iss": self._issuer}, self._key.reveal(), algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise AuthError("the private key can't sign: it is not an unencrypted RSA key in PEM form", state="key", hint="run: syncd check") from error
        remember(Secret(text), lasting=False)
        return text

    def _server_now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self.offset_seconds)

    def _raise_if_refused(self, what: Grant | str) -> None:
        until, error = self._refused.get(what, (0.0, None))
        if error is not None and self._clock.monotonic() < until:
            raise error
        self._refused.pop(what, None)

    @contextmanager
    def _turn(self, owner: str, patience: Patience) -> Iterator[None]:
        """One at a time for each owner, so that many threads share a mint. Raises as `Patience.check` does."""
        with self._guard:
            lock = self._locks.setdefault(owner, threading.Lock())
        while not lock.acquire(timeout=LOOK_UP_SECONDS):
            patience.check()
        try:
            yield
        finally:
            lock.release()


def _basic(token: str) -> str:
    """As git's own endpoints take a token. Source: GitHub docs, "Authenticating as a GitHub App installation": the user is x-access-token."""
    return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


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
            value = token.value.reveal()
            headers["Authorization"] = _basic(value) if request.basic else f"Bearer {value}"
        sent = replace(request, headers=headers)
        answer = self._inner.send(sent, patience)
        for wait in FRESH_WAITS:
            young = token is not None and token.expires_at is not None and self._clock.monotonic() - token.born < FRESH_SECONDS
            if not young or answer.status not in (401, 403) or wait >= patience.remaining_seconds():
                break
            answer = known(answer)
            if not self._may_pass(sent, answer):
                break
            patience.wait(wait)
            answer = self._inner.send(sent, patience)
        return answer

    def _may_pass(self, request: Request, answer: Response) -> bool:
        """Is it a refusal that a token meets where nobody knows it yet? Source: octokit/auth-app.js: 401, and 403 for narrowed permissions."""
        error = failure(request, refusal(answer), self._clock.now())
        return isinstance(error, AuthError) and error.state in ("token", "permission")


__all__ = ["Anonymous", "Authorised", "Credentials", "Grant", "Installation", "PersonalToken", "Token"]
