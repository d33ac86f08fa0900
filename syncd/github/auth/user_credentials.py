"""Users: the token of a login, renewed by itself.

A refresh token is used by one process at a time, and its answer is saved before it is used. A
token pair goes to the host and the app it was given for and to no other. Once GitHub may have
answered, neither a signal nor the run's own time ends the wait: an answer that is thrown away is
a login that is lost. What GitHub refuses is not requested again within a minute.
Source: docs "Refreshing user access tokens".
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import AuthError, RemoteUnavailableError, SyncdError, TimedOutError
from syncd.github.auth.credentials import (
    POLL_INTERVAL_SECONDS,
    REFUSAL_CACHE_SECONDS,
    RELOAD_INTERVAL_SECONDS,
    Token,
    share_failure,
)
from syncd.github.auth.device_flow import OAuthClient, TokenOwner, parse_tokens
from syncd.github.protocol import Transport
from syncd.github.urls import web_origin
from syncd.identities import OAuthTokens
from syncd.redaction import Secret, add_secret

REFRESH_TIMEOUT_SECONDS = 20.0  # for one request, whatever the run's own time is
# How long GitHub is not asked again after it could not be reached: every job would wait in turn.
UNREACHABLE_CACHE_SECONDS = 5.0
MAX_ATTEMPTS = 3


class TokenStore(Protocol):
    """Where the token pair of one identity is kept: on disk, for all processes."""

    def load(self) -> OAuthTokens | None:
        """Return the saved pair, or None."""

    def exclusive_lock(self, deadline: Deadline) -> AbstractContextManager[None]:
        """Return a context in which no other process requests or saves a pair."""

    def interrupted_request(self, pair: OAuthTokens) -> Mapping[str, str] | None:
        """Return `pid` and `at` of a request for the pair after this one that saved no answer."""

    def begin_request(self, pair: OAuthTokens, now: datetime) -> None:
        """Note that the pair after this one is about to be requested."""

    def end_request(self, pair: OAuthTokens) -> None:
        """Note that GitHub refused: there is no new pair."""

    def save(self, pair: OAuthTokens) -> None:
        """Write the pair to disk, synced."""


class UserCredentials:
    """The credentials of a login identity.

    They are the saved pair's token while it is valid, and the next pair's after that. Six
    parameters: three of the configuration's values, and three collaborators.
    """

    def __init__(
        self,
        name: str,
        api: str,
        client_id: str,
        token_store: TokenStore,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._name, self._api, self._client_id = name, api, client_id
        self._token_store, self._clock = token_store, clock
        self._client = OAuthClient(transport, web_origin(api), client_id, name)
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._rejected: Secret | None = None
        self._unsaved: OAuthTokens | None = None
        self._renewed_at = self._read_at = float("-inf")
        self._refused: tuple[float, SyncdError] | None = None
        self._offset = timedelta(0)  # server clock minus ours, as far as it showed

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        """Return a usable token, renewed where the saved one is not.

        Raises AuthError when no user is logged in, or GitHub refuses the login.
        """
        while not self._lock.acquire(timeout=POLL_INTERVAL_SECONDS):
            deadline.check()
        try:
            now = self._clock.monotonic()
            is_due = now - self._read_at >= RELOAD_INTERVAL_SECONDS
            if is_due:
                self._read_at = now
            if self._token is None or is_due or not self._is_usable(self._token):
                self._token = None  # a logout, or a login as another user, needs no restart
                with share_failure(self, deadline):
                    self._token = self._saved_token() or self._renew(deadline)
            return self._token
        finally:
            self._lock.release()

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """Forget a token that GitHub refused; return whether asking again may give another one.

        A token that was renewed less than a minute ago stays: where GitHub refuses every token it
        gives, another would not help.
        """
        with self._lock:
            if self._token != token:
                return True
            if self._clock.monotonic() - self._renewed_at < REFUSAL_CACHE_SECONDS:
                return False
            self._rejected, self._token = token.value, None
            return True

    def _is_usable(self, token: Token) -> bool:
        return token.usable_at(self._clock.now() + self._offset, self._clock.monotonic())

    def _load(self) -> OAuthTokens:
        pair, log_in = self._token_store.load(), f"run: syncd login {self._name}"
        if pair is None:
            raise AuthError(
                f"no user is logged in as {self._name}",
                id="auth/not-logged-in",
                state="login",
                hint=log_in,
            )
        if (pair.api, pair.client_id) != (self._api, self._client_id):
            raise AuthError(
                f"the login of {self._name} is for another host or app "
                f"({pair.client_id} at {pair.api}) than the configuration names now",
                id="auth/login-for-another-app",
                state="login",
                hint=log_in,
            )
        return pair

    def _saved_token(self) -> Token | None:
        """Return the saved token, where it is a valid one that GitHub has not refused."""
        pair = self._load()
        token = self._as_token(pair)
        return token if pair.access != self._rejected and self._is_usable(token) else None

    def _as_token(self, pair: OAuthTokens) -> Token:
        for secret in (pair.access, pair.refresh):
            if secret is not None:
                add_secret(secret, long_lived=False)
        now, monotonic = self._clock.now(), self._clock.monotonic()
        age = max(0.0, (now - pair.issued_at).total_seconds())
        lifetime = float("inf")
        if pair.access_expires_at is not None:
            lifetime = (pair.access_expires_at - now - self._offset).total_seconds()
        return Token(pair.access, pair.access_expires_at, monotonic - age, monotonic + lifetime)

    def _renew(self, deadline: Deadline) -> Token:
        if self._refused is not None and self._clock.monotonic() < self._refused[0]:
            raise self._refused[1]
        self._refused = None
        try:
            with self._token_store.exclusive_lock(deadline):
                if self._unsaved is not None:
                    return self._save(self._unsaved)
                # another process may have been faster
                return self._saved_token() or self._request_next(self._load(), deadline)
        except (AuthError, RemoteUnavailableError) as error:
            if not isinstance(error, TimedOutError):
                is_refusal = isinstance(error, AuthError)
                wait = REFUSAL_CACHE_SECONDS if is_refusal else UNREACHABLE_CACHE_SECONDS
                self._refused = self._clock.monotonic() + wait, error
            raise

    def _request_next(self, pair: OAuthTokens, deadline: Deadline) -> Token:
        """Request the next pair, save it, and return its token."""
        if pair.refresh is None:
            raise AuthError(
                f"the login of {self._name} is over: GitHub does not take its token any more",
                id="auth/login-over",
                state="login",
                hint=f"run: syncd login {self._name}",
            )
        before = self._token_store.interrupted_request(pair)
        if before is None:
            self._token_store.begin_request(pair, self._clock.now())
        found, at = self._refreshed(pair, pair.refresh, before, deadline)
        now = self._clock.now()
        owner = TokenOwner(self._api, self._client_id, pair.login)
        self._unsaved = parse_tokens(found, at, owner, now, pair)
        self._offset = at - now if at is not None else self._offset
        return self._save(self._unsaved)

    def _save(self, pair: OAuthTokens) -> Token:
        """Save the pair and return its token.

        Where saving fails the pair stays in memory, and the next caller tries again.
        """
        self._token_store.save(pair)
        self._unsaved, self._rejected, self._renewed_at = None, None, self._clock.monotonic()
        return self._as_token(pair)

    def _refreshed(
        self,
        pair: OAuthTokens,
        refresh: Secret,
        before: Mapping[str, str] | None,
        deadline: Deadline,
    ) -> tuple[dict[str, Any], datetime | None]:
        """Return GitHub's answer to the refresh token, and the server's time of it.

        An answer that was lost may have used up the refresh token; a refusal after that says so.
        """
        lost: RemoteUnavailableError | None = None
        for attempt in range(MAX_ATTEMPTS):
            if lost is not None:
                deadline.wait(float(attempt))
            try:
                # not the run's deadline: see the module's docstring
                return self._client.refresh(refresh, Deadline(self._clock, REFRESH_TIMEOUT_SECONDS))
            except AuthError as error:
                if before is None and lost is None:
                    self._token_store.end_request(pair)
                    raise
                raise self._lost_login(before, error) from error
            except TimedOutError as error:
                lost = RemoteUnavailableError(
                    f"GitHub did not answer the request for a new token for {self._name} within "
                    f"{REFRESH_TIMEOUT_SECONDS:g} s",
                    id="unavailable/no-answer",
                    hint="GitHub has trouble; the next run tries again",
                )
                lost.__cause__ = error
            except RemoteUnavailableError as error:
                lost = error
        raise lost or AssertionError("no try was made")

    def _lost_login(self, before: Mapping[str, str] | None, error: AuthError) -> AuthError:
        when = f" on {before['at']} (pid {before['pid']})" if before is not None else ""
        return AuthError(
            f"the login of {self._name} was lost: a renewal was cut off{when} after GitHub had "
            "answered and before the new tokens were on disk",
            id="auth/login-lost",
            state="login",
            hint=error.hint,
        )


__all__ = ["TokenStore", "UserCredentials"]
