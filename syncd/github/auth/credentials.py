"""The credentials of an identity, in one shape for every kind.

This module has those of a token that a user made and of no token; Apps are in app.py, users who
log in in user_credentials.py. A token is sent with each request about its repositories and never
shown. One that GitHub refuses is replaced once where there may be another. One too young to be
known to all of GitHub's servers is tried again for some seconds.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

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
from syncd.github.attempts import Attempts
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import Request, Response, Transport, buffered
from syncd.github.urls import same_origin
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

RENEW_EARLY_SECONDS = 300.0
FRESH_TOKEN_SECONDS = 10.0  # a token this young may not be known to every server yet
FRESH_TOKEN_WAITS_SECONDS = (1.0, 2.0, 3.0, 3.0)
REF_UNKNOWN = 422  # the repository is there, the ref is not: "Get a commit"
# Routes whose objects an earlier answer named: they are never absent.
ROUTES_OF_KNOWN_OBJECTS = frozenset(("tree", "blob", "commit", "lfs"))
# A refused grant is not requested again sooner: a storm of jobs must not become a storm of token
# requests.
REFUSAL_CACHE_SECONDS = 60.0
RELOAD_INTERVAL_SECONDS = 60.0
POLL_INTERVAL_SECONDS = 0.5  # how soon a thread that waits for another's token notices a signal


class Token(Struct, frozen=True):
    """One credential, of an `installation` where it is an App's.

    `issued_monotonic` and `ends_monotonic` are on the monotonic clock, so that neither a stepped
    wall clock nor a sleeping laptop alone misleads `usable_at`.
    """

    value: Secret
    expires_at: datetime | None = None
    issued_monotonic: float = 0.0
    ends_monotonic: float = float("inf")
    installation: int | None = None

    def usable_at(self, now: datetime, monotonic: float) -> bool:
        """Return whether the token is valid on both clocks, with time left for a long answer.

        The time left is 5 minutes, less for a token with a short life.
        """
        early = min(RENEW_EARLY_SECONDS, (self.ends_monotonic - self.issued_monotonic) / 4)
        return (
            self.expires_at is None or now < self.expires_at - timedelta(seconds=early)
        ) and monotonic < self.ends_monotonic - early


def presentable(value: str) -> bool:
    """Return whether a header can hold the token.

    Nothing else is known of a token: neither its length nor its letters.
    """
    return bool(value) and all("!" <= letter <= "~" for letter in value)


class Credentials(Protocol):
    """The source of tokens of one identity, of whatever kind."""

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        """Return the token for a request about `repo`; None to send none."""

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """Forget a token that GitHub refused; return whether another one may be available."""


class NoCredentials:
    """The credentials of an anonymous identity: none."""

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        """Return None."""
        return None

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """Return False: there is no other token."""
        return False


class StaticToken:
    """A token that a user made, read from the configuration.

    `read` gives it anew, so that a replacement needs no restart; where it can't be read any more
    the current token stays. Raises ConfigError for a text that can't be a token; it is not shown.
    """

    def __init__(
        self, value: Secret, read: Callable[[], Secret] | None = None, clock: Clock | None = None
    ) -> None:
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._token, self._read_at = (
            self._checked(value),
            clock.monotonic() if clock is not None else 0.0,
        )

    @staticmethod
    def _checked(value: Secret) -> Token:
        if not presentable(value.reveal()):
            raise ConfigError(
                "the token is empty, or holds a space, a line end or another character that no "
                "token has",
                id="config/token",
                hint="write the token alone into its file or variable",
            )
        add_secret(value)
        return Token(value)

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        """Return the current token, read again once a minute at most."""
        self._reload(RELOAD_INTERVAL_SECONDS)
        return self._token

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """Read the token again; return whether it is another one now."""
        if self._token == token:
            self._reload(0.0)
        return self._token != token

    def _reload(self, age_seconds: float) -> None:
        """Read the token again, unless that happened less than `age_seconds` ago."""
        with self._lock:
            if (
                self._read is None
                or self._clock is None
                or self._clock.monotonic() - self._read_at < age_seconds
            ):
                return
            self._read_at = self._clock.monotonic()
            try:
                found = self._checked(self._read())
            except ConfigError as error:
                log.warning(
                    "the token can't be read again; syncd keeps using the current one: %s", error
                )
                return
            if found.value != self._token.value:
                log.warning("a new token is used from now on")
                self._token = found


def bearer(request: Request, token: Secret) -> Request:
    """Return the request with a credential of its own."""
    return replace(
        request, headers={**request.headers, "Authorization": f"Bearer {token.reveal()}"}
    )


def _basic(token: str) -> str:
    """Return a token as git's own endpoints take it.

    Source: GitHub docs, "Authenticating as a GitHub App installation": the user is x-access-token.
    """
    return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


def is_temporary(error: SyncdError) -> bool:
    """Return whether the error on the way to a token is temporary, and not the run's timeout."""
    unavailable = isinstance(error, (RemoteUnavailableError, BadResponseError))
    return unavailable and not isinstance(error, TimedOutError)


@contextmanager
def share_failure(
    thing: Hashable, deadline: Deadline, which: Callable[[SyncdError], bool] = is_temporary
) -> Iterator[None]:
    """Raise an error of this block that is one of `which` again for every later run.

    Runs that share `deadline.failures` (those of a command, or of one scheduling round) do not try
    again.
    """
    buffered = deadline.failures.get(thing)
    if buffered is not None:
        raise buffered.with_traceback(None)
    try:
        yield
    except SyncdError as error:
        if which(error):
            deadline.failures[thing] = error
        raise


class AuthTransport:
    """Send each request with the credential for its repository.

    A refused token is dropped and requested anew once. A token too young to be known everywhere is
    tried again for some seconds first.
    """

    def __init__(self, inner: Transport, credentials: Credentials, clock: Clock) -> None:
        self._inner, self._credentials, self._clock = inner, credentials, clock
        # by repository: the token with which GitHub showed it last
        self._answered: dict[str | None, Token] = {}

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the answer to the request, sent with the identity\'s token."""
        if not request.authorised:
            return self._inner.send(request, deadline)
        replaced = False
        request = replace(request, attempts=request.attempts or Attempts())
        while True:
            token = self._credentials.token_for(request.repo, deadline)
            answer = self._with_token(request, token, deadline)
            if (
                answer.status != 401
                or token is None
                or replaced
                or not _of_our_token(request, answer)
                or not self._credentials.invalidate(request.repo, token)
            ):
                return answer
            answer.close()
            replaced = True

    def _with_token(self, request: Request, token: Token | None, deadline: Deadline) -> Response:
        headers = dict(request.headers)
        if token is not None:
            value = token.value.reveal()
            headers["Authorization"] = _basic(value) if request.basic_auth else f"Bearer {value}"
        sent = replace(
            request, headers=headers, installation=token.installation if token is not None else None
        )
        answer = self._inner.send(sent, deadline)
        for wait in FRESH_TOKEN_WAITS_SECONDS:
            young = (
                token is not None
                and token.expires_at is not None
                and self._clock.monotonic() - token.issued_monotonic < FRESH_TOKEN_SECONDS
            )
            if (
                not young
                or answer.status not in (401, 403, 404)
                or not _of_our_token(request, answer)
                or wait >= deadline.remaining_seconds()
            ):
                break
            answer = buffered(answer)
            if not self._may_pass(sent, answer, token):
                break
            deadline.wait(wait)
            answer = self._inner.send(sent, deadline)
        # a GraphQL answer is about many repositories, and need not show this one
        is_shown = answer.status < 400 and request.route != "graphql"
        if token is not None and (is_shown or answer.status == REF_UNKNOWN):
            self._answered[request.repo] = token
        return answer

    def _may_pass(self, request: Request, answer: Response, token: Token | None) -> bool:
        """Return whether the refusal of a token that was issued seconds ago may end by itself.

        Source: octokit/auth-app.js (401, and 403 for narrowed permissions); akuity/kargo issues
        5610 and 6630 (404 for a private repository). A repository that GitHub showed with this
        very token is known: what is absent then is absent.
        """
        found = parse_error(answer)
        error = failure(request, found, self._clock.now())
        if answer.status == 404:
            unknown = (
                request.route in ROUTES_OF_KNOWN_OBJECTS
                or self._answered.get(request.repo) != token
            )
            return unknown and "No commit found" not in found.message
        return isinstance(error, AuthError) and error.state in ("token", "permission")


def _of_our_token(request: Request, answer: Response) -> bool:
    """Return whether the refusal is about our token: a host after a redirect never saw it."""
    return same_origin(request.url, answer.url)


__all__ = [
    "AuthTransport",
    "Credentials",
    "NoCredentials",
    "StaticToken",
    "Token",
    "bearer",
    "presentable",
]
