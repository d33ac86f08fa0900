"""GitHub Apps: the App's key signs for who we are, an installation's token reads.

Promises: a token lives in grant_store alone, is narrowed to `contents: read` and to the configured repositories, is minted once however
many threads want it, renewed before it dies on either clock, and ended at a daemon's clean stop. A new key is taken without a restart.
A repository that was renamed is reached by its number. What is refused is not asked for again within a minute.
Source: docs "Generating a JWT", "Create an installation access token for an app", "Managing private keys"; refusals in github/protocol.py.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from msgspec.structs import replace

from syncd.app_jwt import app_jwt
from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    ConfigError,
    RemoteUnavailableError,
    SyncdError,
    TimedOutError,
)
from syncd.github.attempts import MAX_ATTEMPTS, Attempts
from syncd.github.auth.credentials import (
    POLL_INTERVAL_SECONDS,
    REFUSAL_CACHE_SECONDS,
    Token,
    bearer,
    presentable,
    share_failure,
)
from syncd.github.auth.grants import Grant, Grants, GrantStore
from syncd.github.error_responses import failure, parse_error
from syncd.github.error_texts import is_about_the_clock
from syncd.github.protocol import (
    BufferedResponse,
    Request,
    Response,
    Transport,
    buffered,
    date_of,
    delete,
    get,
    one_line,
    post,
    read,
    read_json,
    repo_path,
)
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

KEY_READ_SECONDS = 60.0  # how old a reading of the key may be when something is to be signed
NUMBERED_INSTALLATION_URL = re.compile(r"/repositories/(\d{1,18})/installation$")


def _of_the_app(error: SyncdError) -> bool:
    """Does the refusal meet every request that the App signs?"""
    return isinstance(error, AuthError) and error.state in ("key", "clock")


class RotatingKey:
    """The App's private key as it stands now, and the one that stood before it: a rotation has a moment when either may be the right one.

    `read` gives the key anew and raises ConfigError where it can't be read; then the one in hand goes on.
    """

    def __init__(self, key: Secret, read: Callable[[], Secret] | None, clock: Clock) -> None:
        add_secret(key)
        self._read, self._clock = read, clock
        self._guard = threading.Lock()
        self._keys: tuple[Secret, ...] = (key,)
        self._read_at = clock.monotonic()

    def candidates(self) -> Iterator[Secret]:
        """The keys to try, one after the other while the former is refused; each at most once."""
        self._reload(KEY_READ_SECONDS)
        tried: list[Secret] = []
        while True:
            key = next((key for key in self._keys if key not in tried), None)
            if key is None:
                return
            tried.append(key)
            yield key
            self._reload(0.0)  # it was refused: has it been replaced by now?

    def mark_accepted(self, key: Secret) -> None:
        """GitHub takes this one."""
        with self._guard:
            if self._keys[0] != key:
                log.warning(
                    "GitHub refuses the private key that stands in the configuration's place now; the one before it goes on"
                )
                self._keys = (key, *(other for other in self._keys if other != key))

    def _reload(self, age_seconds: float) -> None:
        with self._guard:
            if self._read is None or self._clock.monotonic() - self._read_at < age_seconds:
                return
            self._read_at = self._clock.monotonic()
            try:
                key = self._read()
            except ConfigError as error:
                log.warning(
                    "the private key can't be read again, the one in hand goes on: %s", error
                )
                return
            if key not in self._keys:
                add_secret(key)
                self._keys = (key, self._keys[0])
                log.warning("a new private key is used from now on")


class AppCredentials:
    """The tokens of one GitHub App identity. `transport` goes without credentials; `repos` are all that the configuration names;
    `read_key` gives the key anew; `grant_store` keeps which repositories are lost; `on_installation` hears of
    each installation and its account."""

    def __init__(
        self,
        api: str,
        issuer: str,
        key: Secret,
        installation_id: int | None,
        repos: Iterable[str],
        transport: Transport,
        clock: Clock,
        read_key: Callable[[], Secret] | None = None,
        grant_store: GrantStore | None = None,
        on_installation: Callable[[int, str], None] = lambda installation, account: None,
    ) -> None:
        self._api, self._issuer, self._configured_id = api, issuer, installation_id
        self._keys = RotatingKey(key, read_key, clock)
        self._grants = Grants((repo.lower() for repo in repos), grant_store)
        self._transport, self._clock, self._on_installation = transport, clock, on_installation
        self._accounts: dict[
            int, str
        ] = {}  # as GitHub spells them, of installations that were looked up
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[Grant, Token] = {}
        self._refused: dict[Grant | str, tuple[float, SyncdError]] = {}
        self._search_refusals: dict[
            Grant, tuple[float, AuthError]
        ] = {}  # refusals of a search that no job has heard yet
        self._replaced_at: dict[Grant, float] = {}
        self._grant_store = grant_store
        buffered = (
            grant_store.installations()
            if grant_store is not None and installation_id is None
            else {}
        )
        self._installations = {covers: number for covers, (number, _) in buffered.items()}
        self._accounts |= {
            number: account for number, account in buffered.values() if account is not None
        }
        self._failing_urls: set[str] = set()  # addresses that have not answered since they failed
        self.offset_seconds = 0.0  # server clock minus ours, once it mattered

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        if repo is None:
            raise ConfigError("an App's token is always for a repository")
        owner = repo.partition("/")[0].lower()
        with self._owner_lock(owner, deadline), share_failure((self, owner), deadline):
            grant = self._grant(repo.lower(), deadline)
            token = self._tokens.get(grant)
            if token is not None and token.usable_at(self._server_now(), self._clock.monotonic()):
                return token
            return self._renew(grant, repo, deadline)

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """If somebody has renewed it already, theirs stays. One that replaced a refused one less than a minute ago stays too:
        where GitHub refuses whatever it hands out, another would not help."""
        with self._guard:
            now = self._clock.monotonic()
            for grant, held in list(self._tokens.items()):
                if held == token:
                    if now - self._replaced_at.get(grant, float("-inf")) < REFUSAL_CACHE_SECONDS:
                        return False
                    self._replaced_at[grant] = now
                    del self._tokens[grant]
        return True

    def installation_of(self, repo: str) -> int | None:
        """The installation whose limit requests about the repository spend, as far as known."""
        repo = repo.lower()
        with self._guard:
            looked_up = self._installations.get(
                repo, self._installations.get(repo.partition("/")[0])
            )
        return self._configured_id if self._configured_id is not None else looked_up

    def revoke_all(self, deadline: Deadline) -> int:
        """Every living token is ended at GitHub, as far as it can be reached; how many were."""
        with self._guard:
            tokens, self._tokens = (
                [
                    token
                    for token in self._tokens.values()
                    if token.usable_at(self._server_now(), self._clock.monotonic())
                ],
                {},
            )
        return sum(self.revoke_token(token, deadline) for token in tokens)

    def installation_token(self, installation: int, deadline: Deadline) -> Token:
        """A token for everything that one installation reaches. It is the caller's to end."""
        return self._mint(Grant(installation, ()), f"installation {installation}", deadline)

    def revoke_token(self, token: Token, deadline: Deadline) -> bool:
        """The token is ended at GitHub, as far as it can be reached."""
        try:
            answer = self._transport.send(
                bearer(
                    delete(self._api, "/installation/token", "revoke", "the end of a token"),
                    token.value,
                ),
                deadline,
            )
            answer.close()
        except SyncdError as error:  # it ends by itself within the hour
            log.info("a token could not be ended: %s", error)
            return False
        return answer.status == 204

    def _renew(self, grant: Grant, repo: str, deadline: Deadline) -> Token:
        self._raise_if_refused(grant)
        try:
            until, said = self._search_refusals.pop(grant, (0.0, None))
            if said is not None and self._clock.monotonic() < until:
                raise said
            token = self._mint(grant, repo, deadline)
        except AuthError as refused:
            error = refused
            try:
                other = self._fallback_grant(grant, repo, error, deadline)
            except AuthError as elsewhere:
                error, other = elsewhere, None
            if other is not None:
                return self._renew(other, repo, deadline)
            self._grants.set_number(repo.lower(), None)
            self._refused[grant] = (self._clock.monotonic() + REFUSAL_CACHE_SECONDS, error)
            raise error from refused
        self._grants.mark_granted(grant)
        self._on_installation(
            grant.installation, self._accounts.get(grant.installation, repo.partition("/")[0])
        )
        with self._guard:
            self._tokens[grant] = token
        return token

    def _fallback_grant(
        self, grant: Grant, repo: str, error: AuthError, deadline: Deadline
    ) -> Grant | None:
        """What to ask for instead of a grant that was refused; None when nothing else helps."""
        if error.state == "installation":
            return self._reinstalled(grant, repo, deadline)
        if error.state != "grant":
            return None
        if len(grant.repositories) > 1:  # one wrong name must fail only its own jobs
            self._grants.split(grant, lambda part: self._is_granted(part, repo, deadline))
        elif grant.number is not None or not self._find_renamed(repo.lower(), deadline):
            return None
        return self._grant(repo.lower(), deadline)

    def _is_granted(self, grant: Grant, repo: str, deadline: Deadline) -> bool:
        """Does GitHub give a token for all of these repositories?"""
        try:
            token = self._mint(grant, repo, deadline)
        except AuthError as error:
            if error.state != "grant":
                raise
            if len(grant.repositories) == 1:
                self._search_refusals[grant] = (
                    self._clock.monotonic() + REFUSAL_CACHE_SECONDS,
                    error,
                )
            return False
        with self._guard:
            self._tokens[grant] = token  # so that a clean stop ends it
        return True

    def _reinstalled(self, grant: Grant, repo: str, deadline: Deadline) -> Grant | None:
        """The same grant in the installation that has replaced the one that is gone.

        Raises AuthError where there is none, or where the configuration names the one that is gone
        and there is another.
        """
        with self._guard:  # other owners' turns go on meanwhile
            found = self._installations.items()
            self._installations = {where: one for where, one in found if one != grant.installation}
            self._save_installations()
        if self._configured_id is None:
            other = self._grant(repo.lower(), deadline)
            return other if other.installation != grant.installation else None
        try:
            now, _ = self._get_installation(repo.lower(), deadline)
        except AuthError:
            return None  # the refusal of the token has said it
        if now == self._configured_id:
            return None
        raise AuthError(
            f"installation {self._configured_id} is gone: the App is installed anew for {repo}, as {now}",
            state="installation",
            hint=f"write installation_id: {now} into the identity, or leave it out",
        )

    def _grant(self, repo: str, deadline: Deadline) -> Grant:
        given = self._configured_id
        return self._grants.of(
            given if given is not None else self._find_installation(repo, deadline), repo
        )

    def _find_installation(self, repo: str, deadline: Deadline) -> int:
        """The installation that covers the repository, by GitHub's word. Cached by owner: an App is installed on an account once."""
        owner = repo.partition("/")[0]
        for where in (repo, owner):
            if where in self._installations:
                return self._installations[where]
        self._raise_if_refused(repo)
        try:
            identity, account = self._get_installation(repo, deadline)
        except AuthError as error:
            self._refused[repo] = (self._clock.monotonic() + REFUSAL_CACHE_SECONDS, error)
            raise
        moved = account != owner  # then it says nothing about the owner's other repositories
        with self._guard:
            self._installations[repo if moved else owner] = identity
            self._save_installations()
        return identity

    def _save_installations(self) -> None:
        """The next process asks for its token at once."""
        if self._grant_store is not None and self._configured_id is None:
            self._grant_store.save_installations(
                {
                    where: (one, self._accounts.get(one))
                    for where, one in self._installations.items()
                }
            )

    def _get_installation(self, repo: str, deadline: Deadline) -> tuple[int, str]:
        """The id of the installation that covers the repository, and its account in lower case. A repository that goes by another
        name now answers under its number, which is remembered."""
        request = get(
            self._api,
            repo_path(repo) + "/installation",
            "installation",
            f"the App's installation on {repo}",
            repo,
        )
        answer = self.send_as_app(request, deadline)
        found = read_json(request, answer)
        identity = found.get("id") if isinstance(found, dict) else None
        if not isinstance(identity, int) or isinstance(identity, bool):
            raise AuthError(
                f"the App's installation on {repo} is ambiguous: GitHub's answer names no single one",
                state="installation",
                hint="set installation_id: in the identity",
            )
        number = NUMBERED_INSTALLATION_URL.search(answer.url.partition("?")[0])
        if number is not None:
            self._grants.set_number(repo, int(number.group(1)))
        account = found.get("account")
        login = account.get("login") if isinstance(account, dict) else None
        if not isinstance(login, str):
            return identity, repo.partition("/")[0]
        self._accounts[identity] = one_line(login)
        return identity, login.lower()

    def _find_renamed(self, repo: str, deadline: Deadline) -> bool:
        """Is a name that no token can be had for the former name of a repository? Its number is known then, and where it went.

        Raises AuthError where it is in another installation than the configured one: nobody said that we may go there.
        """
        try:
            identity, account = self._get_installation(repo, deadline)
        except AuthError:
            return False  # the refusal of the token has said it
        if self._configured_id is not None and identity != self._configured_id:
            raise AuthError(
                f"{repo} is in installation {identity} (of {account}) and not in {self._configured_id}, which the identity names",
                state="moved",
                hint="where it was transferred: write its new owner/name into repo:, and its installation_id: into the identity, or leave that out",
            )
        with self._guard:
            self._installations[repo] = identity
        return self._grants.has_number(repo)

    def token_request_if_known(self, repo: str) -> Request | None:
        """Return the unsigned request for a token that covers `repo`.

        None while that takes more than this request: its installation is not known, or this machine's clock is off.
        """
        installation = self.installation_of(repo)
        if installation is None or self.offset_seconds:
            return None
        return self._token_request(self._grants.of(installation, repo.lower()), repo)

    def _token_request(self, grant: Grant, repo: str) -> Request:
        body: dict[str, object] = {"permissions": {"contents": "read"}}
        if grant.number is not None:
            body["repository_ids"] = [grant.number]
        elif grant.repositories:
            body["repositories"] = list(grant.repositories)
        names = (
            f" for {repo}"
            if len(grant.repositories) == 1
            else f" for {len(grant.repositories)} repositories with {repo}"
            if grant.repositories
            else ""
        )
        request = post(
            self._api,
            f"/app/installations/{grant.installation}/access_tokens",
            "token",
            f"a token of installation {grant.installation}{names}",
            body,
        )
        return replace(request, installation=grant.installation)

    def _mint(self, grant: Grant, repo: str, deadline: Deadline) -> Token:
        request = self._token_request(grant, repo)
        answer = self.send_as_app(request, deadline)
        server = date_of(answer.headers)
        found = read_json(request, answer)
        try:
            value, expires_at = found["token"], datetime.fromisoformat(found["expires_at"])
            lifetime = (expires_at - (server or self._server_now())).total_seconds()
        except (TypeError, KeyError, ValueError) as error:
            raise BadResponseError(
                "asked for an installation token, got an answer without one", hint="check api:"
            ) from error
        if not isinstance(value, str) or not presentable(value) or lifetime <= 0:
            raise BadResponseError(
                "asked for an installation token, got one that can't be used", hint="check api:"
            )
        secret = Secret(value)
        add_secret(secret, long_lived=False)
        now = self._clock.monotonic()
        return Token(secret, expires_at, now, now + lifetime, grant.installation)

    def send_as_app(self, request: Request, deadline: Deadline) -> Response:
        """The answer to a request signed as the App. A key that GitHub does not know gives way to the other one, where there is one."""
        with share_failure((self, "app"), deadline, _of_the_app):
            tries = (
                1 if request.url in self._failing_urls else MAX_ATTEMPTS
            )  # whoever comes next retries it
            attempts = Attempts(tries)
            answer = self._send_whole(replace(request, attempts=attempts), attempts, deadline)
            self._failing_urls.discard(request.url)
            return answer

    def _send_whole(self, request: Request, attempts: Attempts, deadline: Deadline) -> Response:
        """The answer with its body. One that breaks off is asked for again."""
        while True:
            try:
                answer = self._try_keys(request, deadline)
                return BufferedResponse(answer.status, answer.headers, answer.url, read(answer))
            except TimedOutError:
                raise
            except RemoteUnavailableError as error:
                pause = attempts.next_delay_seconds(deadline, answered=error.status is None)
                if pause is None:
                    self._failing_urls.add(request.url)
                    raise
            deadline.wait(pause)

    def _try_keys(self, request: Request, deadline: Deadline) -> Response:
        for key in self._keys.candidates():
            answer = self._send_with_clock_fix(request, key, deadline)
            if answer.status in (200, 201):
                self._keys.mark_accepted(key)
                return answer
            error = failure(request, parse_error(answer), self._clock.now())
            if not isinstance(error, AuthError) or error.state not in ("key", "app"):
                break
        raise error

    def _send_with_clock_fix(self, request: Request, key: Secret, deadline: Deadline) -> Response:
        """A refusal that speaks of clocks is measured from Date, corrected and tried once more."""
        answer = self._signed(request, key, deadline)
        if answer.status == 401:
            answer = buffered(answer)
            server = date_of(answer.headers)
            if server is not None and is_about_the_clock(parse_error(answer).message):
                self.offset_seconds = float(round((server - self._clock.now()).total_seconds()))
                log.warning(
                    "this machine's clock is %.0f s off GitHub's; syncd reckons with it, but set up NTP",
                    -self.offset_seconds,
                )
                answer = self._signed(request, key, deadline)
        return answer

    def _signed(self, request: Request, key: Secret, deadline: Deadline) -> Response:
        return self._transport.send(bearer(request, Secret(self._jwt(key))), deadline)

    def _jwt(self, key: Secret) -> str:
        try:
            text = app_jwt(self._issuer, key.reveal(), self._server_now().timestamp())
        except ValueError as error:
            raise AuthError(
                "the private key can't sign: it is not an unencrypted RSA key in PEM form",
                state="key",
                hint="run: syncd check",
            ) from error
        add_secret(Secret(text), long_lived=False)
        return text

    def _server_now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self.offset_seconds)

    def _raise_if_refused(self, what: Grant | str) -> None:
        until, error = self._refused.get(what, (0.0, None))
        if error is not None and self._clock.monotonic() < until:
            if isinstance(error, AuthError):  # without the request id, which is of another exchange
                raise AuthError(
                    error.message, hint=error.hint, status=error.status, state=error.state
                )
            raise error
        self._refused.pop(what, None)

    @contextmanager
    def _owner_lock(self, owner: str, deadline: Deadline) -> Iterator[None]:
        """One at a time for each owner, so that many threads share a mint. Raises as `Patience.check` does."""
        with self._guard:
            lock = self._locks.setdefault(owner, threading.Lock())
        while not lock.acquire(timeout=POLL_INTERVAL_SECONDS):
            deadline.check()
        try:
            yield
        finally:
            lock.release()
