"""GitHub Apps: the App's key proves its identity, an installation's token reads.

A token is in memory only, is narrowed to `contents: read` and to the configured repositories, is
requested once however many threads want it, renewed before it ends on either clock, and ended at
a daemon's clean stop. A new key is used without a restart. A repository that was renamed is
reached by its number. What is refused is not requested again within a minute.
Source: docs "Create an installation access token for an app"; refusals in error_responses.py.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from msgspec.structs import replace

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import AuthError, ConfigError, SyncdError
from syncd.github.auth.app_signer import AppSigner
from syncd.github.auth.credentials import (
    POLL_INTERVAL_SECONDS,
    REFUSAL_CACHE_SECONDS,
    Token,
    bearer,
    share_failure,
)
from syncd.github.auth.grants import Grant, Grants, GrantStore
from syncd.github.auth.rotating_key import RotatingKey
from syncd.github.auth.token_answer import parse_token, repository_numbers
from syncd.github.protocol import (
    Request,
    Response,
    Transport,
    date_of,
    delete,
    get,
    post,
    read_json,
    repo_path,
    server_text,
)
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

NUMBERED_INSTALLATION_URL = re.compile(r"/repositories/(\d{1,18})/installation$")


class AppCredentials:
    """The tokens of one GitHub App identity.

    `transport` goes without credentials; `repos` are all that the configuration names; `read_key`
    gives the key anew; `grant_store` keeps which repositories are lost; `on_installation` is
    called with each installation and its account. Ten parameters: the configuration's values
    of one identity and the collaborators that the composition root makes.
    """

    PERMISSIONS: ClassVar[Mapping[str, str]] = {"contents": "read"}

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
        self._api, self._configured_id = api, installation_id
        self._signer = AppSigner(issuer, RotatingKey(key, read_key, clock), transport, clock)
        self._grants = Grants((repo.lower() for repo in repos), grant_store)
        self._transport, self._clock, self._on_installation = transport, clock, on_installation
        # by installation: the account as GitHub spells it, where it was looked up
        self._accounts: dict[int, str] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[Grant, Token] = {}
        self._refused: dict[Grant | str, tuple[float, SyncdError]] = {}
        # refusals found while searching for a lost repository, not reported to any job yet
        self._search_refusals: dict[Grant, tuple[float, AuthError]] = {}
        self._replaced_at: dict[Grant, float] = {}
        self._grant_store = grant_store
        saved = (
            grant_store.installations()
            if grant_store is not None and installation_id is None
            else {}
        )
        self._installations = {covers: number for covers, (number, _) in saved.items()}
        self._repository_numbers: dict[str, int] = {}  # of those that a token was given for
        self._accounts |= {
            number: account for number, account in saved.values() if account is not None
        }

    @property
    def offset_seconds(self) -> float:
        """Return GitHub's clock minus ours, once a refusal has shown a difference."""
        return self._signer.offset_seconds

    def send_as_app(self, request: Request, deadline: Deadline) -> Response:
        """Return the whole answer to a request signed as the App. Raises as AppSigner.send does."""
        return self._signer.send(request, deadline)

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        """Return a usable token for the repository; raise what `failure` makes of a refusal."""
        if repo is None:
            raise ConfigError("an App's token is always for a repository")
        owner = repo.partition("/")[0].lower()
        with self._owner_lock(owner, deadline), share_failure((self, owner), deadline):
            grant = self._grant(repo.lower(), deadline)
            token = self._tokens.get(grant)
            if token is not None and token.usable_at(
                self._signer.server_now(), self._clock.monotonic()
            ):
                return token
            return self._renew(grant, repo, deadline)

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """Forget a token that GitHub refused; return whether asking again may give another one.

        A token that another thread has renewed already stays. One that replaced a refused token
        less than a minute ago stays too: where GitHub refuses every token it gives, another would
        not help.
        """
        with self._lock:
            now = self._clock.monotonic()
            for grant, held in list(self._tokens.items()):
                if held == token:
                    if now - self._replaced_at.get(grant, float("-inf")) < REFUSAL_CACHE_SECONDS:
                        return False
                    self._replaced_at[grant] = now
                    del self._tokens[grant]
        return True

    def token_groups(self, repo: str) -> dict[str, tuple[str, int]]:
        """Return repository -> what is equal for those that share a token, as far as it is known.

        `repo` is one that the installation covers.
        """
        installation = self.installation_of(repo)
        return {} if installation is None else self._grants.groups(installation)

    def installation_of(self, repo: str) -> int | None:
        """Return the installation whose limit requests about the repository spend, if known."""
        repo = repo.lower()
        with self._lock:
            looked_up = self._installations.get(
                repo, self._installations.get(repo.partition("/")[0])
            )
        return self._configured_id if self._configured_id is not None else looked_up

    def repository_numbers(self) -> dict[str, int]:
        """Return GitHub's number of each repository that a token was given for, by its name in
        lower case.
        """
        with self._lock:
            return self._repository_numbers | self._grants.numbers()

    def revoke_all(self, deadline: Deadline) -> int:
        """End every usable token at GitHub, as far as it can be reached; return how many ended."""
        with self._lock:
            tokens, self._tokens = (
                [
                    token
                    for token in self._tokens.values()
                    if token.usable_at(self._signer.server_now(), self._clock.monotonic())
                ],
                {},
            )
        return sum(self.revoke_token(token, deadline) for token in tokens)

    def installation_token(self, installation: int, deadline: Deadline) -> Token:
        """Return a token for everything that one installation reaches; the caller has to end it."""
        return self._mint(Grant(installation, ()), f"installation {installation}", deadline)

    def revoke_token(self, token: Token, deadline: Deadline) -> bool:
        """End the token at GitHub, as far as it can be reached; return whether it ended."""
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
            log.info("an installation token could not be revoked: %s", error)
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
        with self._lock:
            self._tokens[grant] = token
        return token

    def _fallback_grant(
        self, grant: Grant, repo: str, error: AuthError, deadline: Deadline
    ) -> Grant | None:
        """Return what to ask for instead of a refused grant; None when nothing else helps."""
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
        """Return whether GitHub gives a token for all of these repositories."""
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
        with self._lock:
            self._tokens[grant] = token  # so that a clean stop ends it
        return True

    def _reinstalled(self, grant: Grant, repo: str, deadline: Deadline) -> Grant | None:
        """Return the same grant in the installation that has replaced the one that is gone.

        Raises AuthError where there is none, or where the configuration names the one that is gone
        and there is another.
        """
        with self._lock:  # threads for other owners run meanwhile
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
            f"installation {self._configured_id} is gone: the App is installed anew for {repo}, "
            f"as {now}",
            id="auth/installation-replaced",
            state="installation",
            hint=f"write installation_id: {now} into the identity, or leave it out",
        )

    def _grant(self, repo: str, deadline: Deadline) -> Grant:
        given = self._configured_id
        return self._grants.of(
            given if given is not None else self._find_installation(repo, deadline), repo
        )

    def _find_installation(self, repo: str, deadline: Deadline) -> int:
        """Return the installation that covers the repository, as GitHub says.

        Cached by owner: an App is installed on an account once.
        """
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
        with self._lock:
            self._installations[repo if moved else owner] = identity
            self._save_installations()
        return identity

    def _save_installations(self) -> None:
        """Save the installations, so that the next process asks for its token at once."""
        if self._grant_store is not None and self._configured_id is None:
            self._grant_store.save_installations(
                {
                    where: (one, self._accounts.get(one))
                    for where, one in self._installations.items()
                }
            )

    def _get_installation(self, repo: str, deadline: Deadline) -> tuple[int, str]:
        """Return the id of the installation that covers the repository, and its account.

        The account is in lower case. A repository that has another name now answers under its
        number, which is kept.
        """
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
                f"the App's installation on {repo} is ambiguous: "
                "GitHub's answer names no single one",
                id="auth/installation-ambiguous",
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
        self._accounts[identity] = server_text(login)
        return identity, login.lower()

    def _find_renamed(self, repo: str, deadline: Deadline) -> bool:
        """Return whether a name that gets no token is the former name of a repository.

        Its number and where it went are known then. Raises AuthError where it is in another
        installation than the configured one: the configuration does not allow that one.
        """
        try:
            identity, account = self._get_installation(repo, deadline)
        except AuthError:
            return False  # the refusal of the token has said it
        if self._configured_id is not None and identity != self._configured_id:
            raise AuthError(
                f"{repo} is in installation {identity} (of {account}) and not in "
                f"{self._configured_id}, which the identity names",
                id="auth/repository-moved",
                state="moved",
                hint="where it was transferred: write its new owner/name into repo:, and its "
                "installation_id: into the identity, or leave that out",
            )
        with self._lock:
            self._installations[repo] = identity
        return repo in self._grants.numbers()

    def token_request_if_known(self, repo: str) -> Request | None:
        """Return the unsigned request for a token that covers `repo`.

        None while that takes more than this request: its installation is not known, or this
        machine's clock is off.
        """
        installation = self.installation_of(repo)
        if installation is None or self.offset_seconds:
            return None
        return self._token_request(self._grants.of(installation, repo.lower()), repo)

    def _token_request(self, grant: Grant, repo: str) -> Request:
        body: dict[str, object] = {"permissions": self.PERMISSIONS}
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
        found = read_json(request, answer)
        now = date_of(answer.headers) or self._signer.server_now()
        token = parse_token(found, grant.installation, now, self._clock.monotonic())
        add_secret(token.value, long_lived=False)
        with self._lock:
            self._repository_numbers |= repository_numbers(found)
        return token

    def _raise_if_refused(self, what: Grant | str) -> None:
        until, error = self._refused.get(what, (0.0, None))
        if error is not None and self._clock.monotonic() < until:
            if isinstance(error, AuthError):  # without the request id, which is of another exchange
                raise AuthError(
                    error.message,
                    id=error.id,
                    hint=error.hint,
                    status=error.status,
                    state=error.state,
                )
            raise error
        self._refused.pop(what, None)

    @contextmanager
    def _owner_lock(self, owner: str, deadline: Deadline) -> Iterator[None]:
        """Hold the owner's lock, so that threads share one token request.

        Raises as `Deadline.check` does.
        """
        with self._lock:
            lock = self._locks.setdefault(owner, threading.Lock())
        while not lock.acquire(timeout=POLL_INTERVAL_SECONDS):
            deadline.check()
        try:
            yield
        finally:
            lock.release()
