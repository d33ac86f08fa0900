"""Users: logging in by the device flow, and the token that comes of it, renewed by itself.

Promises: a refresh token is asked with by one process at a time, and its answer is kept before it is used; a pair goes to the host and the
app it was given for and to no other. Once GitHub may have answered, neither a signal nor the run's own time ends the wait: an answer that
is thrown away is a login that is lost. What GitHub refuses is not asked for again within a minute.
Source: docs "Generating a user access token for a GitHub App", "Authorizing OAuth apps", "Refreshing user access tokens"; cli/oauth
device/device_flow.go for waiting longer than told, and for the HTTP 400 of an app without device flow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    RemoteUnavailableError,
    SyncdError,
    TimedOutError,
)
from syncd.github.auth.credentials import (
    POLL_INTERVAL_SECONDS,
    REFUSAL_CACHE_SECONDS,
    RELOAD_INTERVAL_SECONDS,
    Token,
    bearer,
    presentable,
    share_failure,
)
from syncd.github.bounds import load_json
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import (
    USER_AGENT,
    BufferedResponse,
    Request,
    Response,
    Transport,
    buffered,
    date_of,
    get,
    one_line,
    read,
    read_json,
)
from syncd.github.urls import display_host, web_of
from syncd.identities import OAuthTokens
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
POLL_BACKOFF = 1.2  # cli/oauth: a virtual machine's clock may run fast, and asking early costs five seconds more each time
SLOW_DOWN_BACKOFF = 1.4
MAX_POLL_INTERVAL_SECONDS = 300.0
REFRESH_TIMEOUT_SECONDS = 20.0  # for one question, whatever the run's own time is
UNREACHABLE_CACHE_SECONDS = 5.0  # how long nobody asks again after GitHub could not be reached: every job would wait for it in turn
MAX_ATTEMPTS = 3


class TokenStore(Protocol):
    """Where the pair of one identity is kept: on disk, over all processes."""

    def load(self) -> OAuthTokens | None: ...

    def exclusive_lock(self, deadline: Deadline) -> AbstractContextManager[None]:
        """No other process asks for a pair or keeps one meanwhile."""

    def interrupted_request(self, pair: OAuthTokens) -> Mapping[str, str] | None:
        """`pid` and `at` of who asked for the pair after this one and never got to keep it."""

    def begin_request(self, pair: OAuthTokens, now: datetime) -> None: ...

    def end_request(self, pair: OAuthTokens) -> None:
        """GitHub refused: there is no new pair."""

    def save(self, pair: OAuthTokens) -> None:
        """The pair is on disk, synced."""


# --- logging in -------------------------------------------------------------------------------------------------------


class DeviceCode(Struct, frozen=True):
    """What somebody at a browser needs, and what we ask with meanwhile."""

    user_code: str
    address: str
    device_code: Secret
    seconds: float = 900.0
    interval: float = 5.0


class OAuthClient:
    """One app on one host: what is asked without any credential but the app's public id."""

    def __init__(self, transport: Transport, web: str, client_id: str, name: str) -> None:
        self._transport, self._web, self._client_id, self._name = transport, web, client_id, name

    def request_device_code(self, scope: str, deadline: Deadline) -> DeviceCode:
        """A code to enter on the web. `scope` is for OAuth apps; GitHub Apps have permissions instead and ignore it."""
        fields = {"client_id": self._client_id, **({"scope": scope} if scope else {})}
        found = self._answer(
            "/login/device/code", f"a code to log in to {display_host(self._web)}", fields, deadline
        )
        self._raise_for(found)
        code, user_code, address = (
            found.get(name) for name in ("device_code", "user_code", "verification_uri")
        )
        if not isinstance(code, str) or not isinstance(user_code, str) or not code or not user_code:
            raise BadResponseError(
                "asked for a code to log in, got an answer without one", hint="check api:"
            )
        add_secret(Secret(code), long_lived=False)
        ours = (
            isinstance(address, str)
            and address.startswith(f"{self._web}/")
            and presentable(address)
        )
        seconds, interval = (
            _seconds(found.get("expires_in"), 900.0),
            _seconds(found.get("interval"), 5.0),
        )
        return DeviceCode(
            one_line(user_code),
            str(address) if ours else f"{self._web}/login/device",
            Secret(code),
            seconds,
            min(interval, MAX_POLL_INTERVAL_SECONDS),
        )

    def poll_token(
        self, invitation: DeviceCode, deadline: Deadline
    ) -> tuple[dict[str, Any], datetime | None]:
        """GitHub's answer with the tokens, once somebody has agreed, and the server's time of it. Asks no faster than GitHub allows.

        Raises AuthError when it was declined or nobody came, StoppedError after a signal.
        """
        ends, interval, factor = (
            deadline.clock.monotonic() + invitation.seconds,
            invitation.interval,
            POLL_BACKOFF,
        )
        fields = {
            "client_id": self._client_id,
            "device_code": invitation.device_code.reveal(),
            "grant_type": DEVICE_GRANT,
        }
        while deadline.clock.monotonic() < ends:
            deadline.wait(min(interval * factor, max(0.1, ends - deadline.clock.monotonic())))
            try:
                found, at = self._answered(
                    "/login/oauth/access_token", "whether the code was entered", fields, deadline
                )
            except RemoteUnavailableError as error:
                log.warning("asking again: %s", error)  # the code is still good
                continue
            match found.get("error"):
                case None:
                    return found, at
                case "authorization_pending":
                    continue
                case "slow_down":
                    interval, factor = (
                        min(
                            _seconds(found.get("interval"), interval + 5), MAX_POLL_INTERVAL_SECONDS
                        ),
                        SLOW_DOWN_BACKOFF,
                    )
                case _:
                    self._raise_for(found)
        raise self._error("expired_token", "")

    def refresh(self, token: Secret, deadline: Deadline) -> tuple[dict[str, Any], datetime | None]:
        """The next pair for a refresh token, which is spent by that. Raises AuthError when GitHub does not take it."""
        fields = {
            "client_id": self._client_id,
            "grant_type": "refresh_token",
            "refresh_token": token.reveal(),
        }
        found, at = self._answered(
            "/login/oauth/access_token", f"a new token for {self._name}", fields, deadline
        )
        self._raise_for(found)
        return found, at

    def _answer(
        self, path: str, subject: str, fields: Mapping[str, str], deadline: Deadline
    ) -> dict[str, Any]:
        return self._answered(path, subject, fields, deadline)[0]

    def _answered(
        self, path: str, subject: str, fields: Mapping[str, str], deadline: Deadline
    ) -> tuple[dict[str, Any], datetime | None]:
        headers = {
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        request = Request(
            "POST",
            self._web + path,
            "login",
            subject,
            None,
            headers,
            urlencode(fields).encode(),
            authorised=False,
        )
        answer = self._transport.send(request, deadline)
        if answer.status not in (200, 400, 404):
            raise failure(request, parse_error(answer), deadline.clock.now())
        body = (
            buffered(answer)
            if answer.status != 200
            else BufferedResponse(200, answer.headers, answer.url, read(answer))
        )
        found = _fields(body)
        if not found or (answer.status != 200 and "error" not in found):
            raise (
                failure(request, parse_error(body), deadline.clock.now())
                if answer.status != 200
                else BadResponseError(
                    f"asked for {subject}, got an answer that is none",
                    hint="check api:, and what stands between here and GitHub",
                )
            )
        if answer.status == 404:
            found = {"error": "incorrect_client_credentials"}
        return found, date_of(answer.headers)

    def _raise_for(self, found: Mapping[str, Any]) -> None:
        error = found.get("error")
        if error is not None:
            raise self._error(str(error), one_line(found.get("error_description")))

    def _error(self, word: str, said: str) -> AuthError:
        again, home = f"run: syncd login {self._name}", display_host(self._web)
        known_words = {
            "expired_token": ("the code was not entered in time", again),
            "token_expired": ("the code was not entered in time", again),
            "access_denied": ("it was declined in the browser", f"to try once more, {again}"),
            "device_flow_disabled": (
                f"the app {self._client_id} does not allow the device flow",
                f"in the app's settings on {home} tick Enable Device Flow",
            ),
            "incorrect_client_credentials": (
                f"{home} knows no app with the client id {self._client_id}",
                "check client_id: (it is on the app's settings page; it is not the app id), and api:",
            ),
            "incorrect_device_code": ("GitHub does not know the code any more", again),
            "bad_refresh_token": (
                f"the login of {self._name} is over: GitHub does not take its refresh token",
                again,
            ),
            "unsupported_grant_type": (
                f"{home} does not know this way of logging in",
                "an Enterprise Server must be 3.1 or newer; else use a token:",
            ),
        }
        text, hint = known_words.get(
            word, (f"GitHub answered {one_line(word)}" + (f" ({said})" if said else ""), again)
        )
        return AuthError(
            f"can't log in as {self._name}: {text}" if word != "bad_refresh_token" else text,
            state="login",
            hint=hint,
        )


def _fields(response: Response) -> dict[str, Any]:
    """An answer's fields, from JSON or, where something did not heed Accept, from a form; empty for anything else."""
    body = read(response).strip()
    if body[:1] == b"{":
        try:
            found = load_json(body, "login")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    text = body.decode("ascii", "replace")
    return (
        dict(parse_qsl(text))
        if "=" in text and not text.startswith("<") and " " not in text
        else {}
    )


def _seconds(value: object, default: float) -> float:
    """A number of seconds, from JSON's or a form's."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 12:
        value = int(value)
    return (
        float(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**12
        else default
    )


def parse_tokens(
    found: Mapping[str, Any],
    at: datetime | None,
    api: str,
    client_id: str,
    login: str,
    now: datetime,
    before: OAuthTokens | None = None,
) -> OAuthTokens:
    """The pair in GitHub's answer. `at` is the server's time of it. Raises BadResponseError for an answer without a usable token."""
    access, refresh = found.get("access_token"), found.get("refresh_token")
    if (
        not isinstance(access, str)
        or not presentable(access)
        or not (refresh is None or (isinstance(refresh, str) and presentable(refresh)))
    ):
        raise BadResponseError(
            "asked for a user's token, got an answer without one that can be used",
            hint="check api:",
        )
    for value in (access, refresh):
        if value is not None:
            add_secret(Secret(value), long_lived=False)
    at = at or now
    return OAuthTokens(
        api,
        client_id,
        login,
        Secret(access),
        now,
        _end(found.get("expires_in"), at),
        Secret(refresh) if refresh is not None else None,
        _end(found.get("refresh_token_expires_in"), at),
        before.mark if before is not None else "",
    )


def _end(seconds: object, at: datetime) -> datetime | None:
    lives = _seconds(seconds, 0.0)
    try:
        return at + timedelta(seconds=lives) if lives else None
    except OverflowError:
        return None


def get_authenticated_user(
    transport: Transport, api: str, token: Secret, deadline: Deadline
) -> str:
    """The login of the user whose token it is. Raises what `failure` makes of a refusal."""
    request = replace(
        bearer(get(api, "/user", "user", "who this token belongs to", None), token),
        authorised=False,
    )
    answer = transport.send(request, deadline)
    if answer.status != 200:
        raise failure(request, parse_error(answer), deadline.clock.now())
    found = read_json(request, answer)
    login = found.get("login") if isinstance(found, dict) else None
    return one_line(login) or "somebody"


# --- being logged in --------------------------------------------------------------------------------------------------


class UserCredentials:
    """The credentials of a login identity: the kept pair's token while it lives, and the next pair's after that."""

    def __init__(
        self,
        name: str,
        api: str,
        client_id: str,
        pairs: TokenStore,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._name, self._api, self._client_id, self._pairs, self._clock = (
            name,
            api,
            client_id,
            pairs,
            clock,
        )
        self._door = OAuthClient(transport, web_of(api), client_id, name)
        self._turn = threading.Lock()
        self._token: Token | None = None
        self._rejected: Secret | None = None
        self._unkept: OAuthTokens | None = None
        self._renewed_at = self._looked_at = float("-inf")
        self._refused: tuple[float, SyncdError] | None = None
        self._offset = timedelta(0)  # server clock minus ours, as far as it showed

    def token_for(self, repo: str | None, deadline: Deadline) -> Token | None:
        while not self._turn.acquire(timeout=POLL_INTERVAL_SECONDS):
            deadline.check()
        try:
            now = self._clock.monotonic()
            looked_at, self._looked_at = (
                self._looked_at,
                now if now - self._looked_at >= RELOAD_INTERVAL_SECONDS else self._looked_at,
            )
            if (
                self._token is None
                or self._looked_at != looked_at
                or not self._token.usable_at(self._clock.now() + self._offset, now)
            ):
                self._token = None  # who logged out, or in as somebody else, needs no restart
                with share_failure(self, deadline):
                    self._token = self._found() or self._renewed(deadline)
            return self._token
        finally:
            self._turn.release()

    def invalidate(self, repo: str | None, token: Token) -> bool:
        """One that was renewed less than a minute ago stays: where GitHub refuses whatever it hands out, another would not help."""
        with self._turn:
            if self._token != token:
                return True
            if self._clock.monotonic() - self._renewed_at < REFUSAL_CACHE_SECONDS:
                return False
            self._rejected, self._token = token.value, None
            return True

    def _kept(self) -> OAuthTokens:
        pair, again = self._pairs.load(), f"run: syncd login {self._name}"
        if pair is None:
            raise AuthError(
                f"no user is logged in as {self._name}",
                id="auth/not-logged-in",
                state="login",
                hint=again,
            )
        if (pair.api, pair.client_id) != (self._api, self._client_id):
            raise AuthError(
                f"the login of {self._name} is for another host or app ({pair.client_id} at {pair.api}) than the configuration names now",
                state="login",
                hint=again,
            )
        return pair

    def _found(self) -> Token | None:
        """The kept token, where it is a living one that GitHub has not refused."""
        pair = self._kept()
        token = self._as_token(pair)
        return (
            token
            if pair.access != self._rejected
            and token.usable_at(self._clock.now() + self._offset, self._clock.monotonic())
            else None
        )

    def _as_token(self, pair: OAuthTokens) -> Token:
        for secret in (pair.access, pair.refresh):
            if secret is not None:
                add_secret(secret, long_lived=False)
        now = self._clock.now()
        age = max(0.0, (now - pair.issued_at).total_seconds())
        lives = (
            (pair.access_expires_at - now - self._offset).total_seconds()
            if pair.access_expires_at is not None
            else float("inf")
        )
        born = self._clock.monotonic() - age
        return Token(pair.access, pair.access_expires_at, born, self._clock.monotonic() + lives)

    def _renewed(self, deadline: Deadline) -> Token:
        if self._refused is not None and self._clock.monotonic() < self._refused[0]:
            raise self._refused[1]
        self._refused = None
        try:
            with self._pairs.exclusive_lock(deadline):
                if self._unkept is not None:
                    return self._kept_now(self._unkept)
                return self._found() or self._next(
                    self._kept(), deadline
                )  # another process may have been faster
        except (AuthError, RemoteUnavailableError) as error:
            if not isinstance(error, TimedOutError):
                self._refused = (
                    self._clock.monotonic()
                    + (
                        REFUSAL_CACHE_SECONDS
                        if isinstance(error, AuthError)
                        else UNREACHABLE_CACHE_SECONDS
                    ),
                    error,
                )
            raise

    def _next(self, pair: OAuthTokens, deadline: Deadline) -> Token:
        """Ask for the next pair, keep it, use it."""
        if pair.refresh is None:
            raise AuthError(
                f"the login of {self._name} is over: GitHub does not take its token any more",
                state="login",
                hint=f"run: syncd login {self._name}",
            )
        before = self._pairs.interrupted_request(pair)
        if before is None:
            self._pairs.begin_request(pair, self._clock.now())
        found, at = self._asked(pair, pair.refresh, before, deadline)
        now = self._clock.now()
        self._unkept = parse_tokens(found, at, self._api, self._client_id, pair.login, now, pair)
        self._offset = at - now if at is not None else self._offset
        return self._kept_now(self._unkept)

    def _kept_now(self, pair: OAuthTokens) -> Token:
        """The pair's token, once it is on disk. Where that fails the pair stays in hand, and the next who wants a token tries again."""
        self._pairs.save(pair)
        self._unkept, self._rejected, self._renewed_at = None, None, self._clock.monotonic()
        return self._as_token(pair)

    def _asked(
        self,
        pair: OAuthTokens,
        refresh: Secret,
        before: Mapping[str, str] | None,
        deadline: Deadline,
    ) -> tuple[dict[str, Any], datetime | None]:
        """GitHub's answer. An answer that was lost may have spent the refresh token: that is said when it turns out so."""
        lost: RemoteUnavailableError | None = None
        for attempt in range(MAX_ATTEMPTS):
            if lost is not None:
                deadline.wait(float(attempt))
            try:
                return self._door.refresh(
                    refresh, Deadline(self._clock, REFRESH_TIMEOUT_SECONDS)
                )  # not the run's: see the module's promises
            except AuthError as error:
                if before is None and lost is None:
                    self._pairs.end_request(pair)
                    raise
                when = f" on {before['at']} (pid {before['pid']})" if before is not None else ""
                raise AuthError(
                    f"the login of {self._name} was lost: a renewal was cut off{when} after GitHub had answered and before the new tokens were on disk",
                    state="login",
                    hint=error.hint,
                ) from error
            except TimedOutError as error:
                lost = RemoteUnavailableError(
                    f"asked for a new token for {self._name}: no answer within {REFRESH_TIMEOUT_SECONDS:g} s",
                    hint="GitHub has trouble; the next run tries again",
                )
                lost.__cause__ = error
            except RemoteUnavailableError as error:
                lost = error
        raise lost or AssertionError("no try was made")


__all__ = [
    "DeviceCode",
    "OAuthClient",
    "TokenStore",
    "UserCredentials",
    "get_authenticated_user",
    "parse_tokens",
]
