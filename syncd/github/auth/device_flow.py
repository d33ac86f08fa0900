"""Users: logging in by the device flow, and the requests about a user's tokens.

Source: docs "Generating a user access token for a GitHub App", "Authorizing OAuth apps",
"Refreshing user access tokens"; cli/oauth device/device_flow.go for polling more slowly than
GitHub asks, and for the HTTP 400 of an app without device flow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    RemoteUnavailableError,
)
from syncd.github.auth.credentials import (
    bearer,
    presentable,
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
    read_body,
    read_json,
    server_text,
)
from syncd.github.urls import display_host
from syncd.identities import OAuthTokens
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# cli/oauth: a virtual machine's clock may run fast, and asking early costs five seconds more
# each time
POLL_BACKOFF = 1.2
SLOW_DOWN_BACKOFF = 1.4
MAX_POLL_INTERVAL_SECONDS = 300.0


class DeviceCode(Struct, frozen=True):
    """What the user enters in a browser, and the code that syncd polls with meanwhile."""

    user_code: str
    address: str
    device_code: Secret
    lifetime_seconds: float = 900.0
    interval_seconds: float = 5.0


class OAuthClient:
    """One app on one host: the requests without any credential but the app's public id."""

    def __init__(self, transport: Transport, web: str, client_id: str, name: str) -> None:
        self._transport, self._web, self._client_id, self._name = transport, web, client_id, name

    def request_device_code(self, scope: str, deadline: Deadline) -> DeviceCode:
        """Request a code that the user enters on the web.

        `scope` is for OAuth apps; GitHub Apps have permissions instead and ignore it.
        """
        fields = {"client_id": self._client_id, **({"scope": scope} if scope else {})}
        found = self._post_form(
            "/login/device/code", f"a code to log in to {display_host(self._web)}", fields, deadline
        )
        self._raise_for(found)
        code, user_code, address = (
            found.get(name) for name in ("device_code", "user_code", "verification_uri")
        )
        if not isinstance(code, str) or not isinstance(user_code, str) or not code or not user_code:
            raise BadResponseError(
                "GitHub answered the request for a login code without one",
                id="bad_response/no-login-code",
                hint="check api:",
            )
        add_secret(Secret(code), long_lived=False)
        is_on_this_host = (
            isinstance(address, str)
            and address.startswith(f"{self._web}/")
            and presentable(address)
        )
        seconds, interval = (
            _seconds(found.get("expires_in"), 900.0),
            _seconds(found.get("interval"), 5.0),
        )
        return DeviceCode(
            server_text(user_code),
            str(address) if is_on_this_host else f"{self._web}/login/device",
            Secret(code),
            seconds,
            min(interval, MAX_POLL_INTERVAL_SECONDS),
        )

    def poll_token(
        self, code: DeviceCode, deadline: Deadline
    ) -> tuple[dict[str, Any], datetime | None]:
        """Poll until the user has agreed; return GitHub's answer and the server's time of it.

        Polls no faster than GitHub allows. Raises AuthError when the user declined or did not
        enter the code in time, StoppedError after a signal.
        """
        ends, interval, factor = (
            deadline.clock.monotonic() + code.lifetime_seconds,
            code.interval_seconds,
            POLL_BACKOFF,
        )
        fields = {
            "client_id": self._client_id,
            "device_code": code.device_code.reveal(),
            "grant_type": DEVICE_GRANT,
        }
        while deadline.clock.monotonic() < ends:
            deadline.wait(min(interval * factor, max(0.1, ends - deadline.clock.monotonic())))
            try:
                found, at = self._post(
                    "/login/oauth/access_token", "whether the code was entered", fields, deadline
                )
            except RemoteUnavailableError as error:
                log.warning("the login is not complete yet; polling again: %s", error)
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
        """Return the next pair for a refresh token, which is used up by that.

        Raises AuthError when GitHub does not accept it.
        """
        fields = {
            "client_id": self._client_id,
            "grant_type": "refresh_token",
            "refresh_token": token.reveal(),
        }
        found, at = self._post(
            "/login/oauth/access_token", f"a new token for {self._name}", fields, deadline
        )
        self._raise_for(found)
        return found, at

    def _post_form(
        self, path: str, subject: str, fields: Mapping[str, str], deadline: Deadline
    ) -> dict[str, Any]:
        return self._post(path, subject, fields, deadline)[0]

    def _post(
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
            else BufferedResponse(200, answer.headers, answer.url, read_body(answer))
        )
        found = _fields(body)
        if not found or (answer.status != 200 and "error" not in found):
            raise (
                failure(request, parse_error(body), deadline.clock.now())
                if answer.status != 200
                else BadResponseError(
                    f"GitHub answered the request for {subject} without any field",
                    id="bad_response/not-a-form",
                    hint="check api:, and what is between this machine and GitHub",
                )
            )
        if answer.status == 404:
            found = {"error": "incorrect_client_credentials"}
        return found, date_of(answer.headers)

    def _raise_for(self, found: Mapping[str, Any]) -> None:
        error = found.get("error")
        if error is not None:
            raise self._error(str(error), server_text(found.get("error_description")))

    def _error(self, code: str, description: str) -> AuthError:
        again, home = f"run: syncd login {self._name}", display_host(self._web)
        quoted = f" ({description})" if description else ""
        unknown = "auth/login-refused", f"GitHub answered {server_text(code)}{quoted}", again
        id, text, hint = self._known_errors(again, home).get(code, unknown)
        if code != "bad_refresh_token":
            text = f"the login as {self._name} failed: {text}"
        return AuthError(text, id=id, state="login", hint=hint)

    def _known_errors(self, again: str, home: str) -> dict[str, tuple[str, str, str]]:
        """Return GitHub's error codes: our id, the message and the hint for each."""
        expired = "auth/login-code-expired", "the code was not entered in time", again
        return {
            "expired_token": expired,
            "token_expired": expired,
            "access_denied": (
                "auth/login-declined",
                "it was declined in the browser",
                f"to try once more, {again}",
            ),
            "device_flow_disabled": (
                "auth/device-flow-disabled",
                f"the app {self._client_id} does not allow the device flow",
                f"in the app's settings on {home} tick Enable Device Flow",
            ),
            "incorrect_client_credentials": (
                "auth/client-id-unknown",
                f"{home} knows no app with the client id {self._client_id}",
                "check client_id: (it is on the app's settings page; it is not the app id), "
                "and api:",
            ),
            "incorrect_device_code": (
                "auth/login-code-unknown",
                "GitHub does not know the code any more",
                again,
            ),
            "bad_refresh_token": (
                "auth/login-over",
                f"the login of {self._name} is over: GitHub does not take its refresh token",
                again,
            ),
            "unsupported_grant_type": (
                "auth/device-flow-unsupported",
                f"{home} does not know this way of logging in",
                "an Enterprise Server must be 3.1 or newer; else use a token:",
            ),
        }


def _fields(response: Response) -> dict[str, Any]:
    """Return an answer's fields; empty for anything that has none.

    They come as JSON or, where something ignored Accept, as a form.
    """
    body = read_body(response).strip()
    if body[:1] == b"{":
        try:
            found = load_json(body, "login")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    text = body.decode("ascii", "replace")
    is_form = "=" in text and not text.startswith("<") and " " not in text
    return dict(parse_qsl(text)) if is_form else {}


def _seconds(value: object, default: float) -> float:
    """Return a number of seconds from a field of JSON or of a form."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 12:
        value = int(value)
    return (
        float(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**12
        else default
    )


class TokenOwner(Struct, frozen=True):
    """Whom a pair of tokens belongs to: a user, and the App that the user logged in to."""

    api: str
    client_id: str
    login: str


def parse_tokens(
    found: Mapping[str, Any],
    at: datetime | None,
    owner: TokenOwner,
    now: datetime,
    before: OAuthTokens | None = None,
) -> OAuthTokens:
    """Return the token pair in GitHub's answer.

    `at` is the server's time of it; `before` is the pair that this one replaces. Raises
    BadResponseError for an answer without a usable token.
    """
    access, refresh = found.get("access_token"), found.get("refresh_token")
    if (
        not isinstance(access, str)
        or not presentable(access)
        or not (refresh is None or (isinstance(refresh, str) and presentable(refresh)))
    ):
        raise BadResponseError(
            "GitHub answered the request for a user's token without one that can be used",
            id="bad_response/no-token",
            hint="check api:",
        )
    for value in (access, refresh):
        if value is not None:
            add_secret(Secret(value), long_lived=False)
    at = at or now
    return OAuthTokens(
        owner.api,
        owner.client_id,
        owner.login,
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
    """Return the login of the user whose token it is.

    Raises what `failure` makes of a refusal.
    """
    request = replace(
        bearer(get(api, "/user", "user", "who this token belongs to", None), token),
        authorised=False,
    )
    answer = transport.send(request, deadline)
    if answer.status != 200:
        raise failure(request, parse_error(answer), deadline.clock.now())
    found = read_json(request, answer)
    login = found.get("login") if isinstance(found, dict) else None
    return server_text(login) or "an unknown user"


__all__ = [
    "DeviceCode",
    "OAuthClient",
    "get_authenticated_user",
    "parse_tokens",
]
