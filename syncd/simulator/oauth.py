"""User logins: the device flow, pairs of tokens and their refreshing, with GitHub's texts.

A refresh token works once, and using it ends the access token beside it. A grant has at most ten
living tokens of one user and scope. Every error but an unknown client is an HTTP 200 with an
`error`. Source: docs "Generating a user access token for a GitHub App", "Authorizing OAuth apps",
"Refreshing user access tokens", "Token expiration and revocation".
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from syncd.simulator.accounts import Accounts, Credential

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
MAX_LIVE_TOKENS = 10
ERROR_TEXTS = {
    "authorization_pending": "The authorization request is still pending.",
    "slow_down": "Too many requests have been made in the same timeframe.",
    "expired_token": "The device_code has expired.",
    "access_denied": "The authorization request was denied.",
    "device_flow_disabled": "Device Flow must be explicitly enabled for this App",
    "incorrect_device_code": "The device_code provided is not valid.",
    "incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
    "unsupported_grant_type": "The grant type is not supported.",
    "bad_refresh_token": "The refresh token passed is incorrect or expired.",
}


class Client(Struct):
    """An app that users log in to. `expiring`: its tokens live 8 hours and can be refreshed."""

    id: str
    secret: str
    expiring: bool = True
    device_flow: bool = True
    kind: str = "ghu"


class Device(Struct):
    """One started login. `login` is the user who approved it."""

    code: str
    user_code: str
    client: Client
    scope: str
    expires: float
    interval: int
    asked_at: float = float("-inf")
    login: str | None = None
    denied: bool = False


class Refresh(Struct):
    """A refresh token and the access token beside it."""

    token: str
    client: Client
    access: Credential
    expires: float
    spent_at: float | None = None
    reused_at: list[float] = field(default_factory=list)


class OAuthServer:
    """The OAuth server of the simulator. Times are in epoch seconds."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.clients: dict[str, Client] = {}
        self.devices: dict[str, Device] = {}
        self.refreshes: dict[str, Refresh] = {}
        self.token_seconds = 28_800.0
        self.refresh_seconds = 15_811_200.0
        self.code_seconds = 900
        self.interval = 5
        self.expired_word = "expired_token"  # the documentation's own page also says token_expired
        self.disabled_status = 200  # a client has seen 400
        self.on_device: Callable[[Device], None] = lambda device: None  # a user at a browser

    def add_client(
        self, client_id: str, *, expiring: bool = True, device_flow: bool = True, kind: str = "ghu"
    ) -> Client:
        """Add an app that users can log in to.

        `kind` is ghu for a GitHub App, gho for an OAuth app, whose tokens do not expire unless
        `expiring`.
        """
        self.clients[client_id] = Client(
            client_id, secrets.token_hex(20), expiring, device_flow, kind
        )
        return self.clients[client_id]

    def approve(self, user_code: str, login: str = "ada") -> None:
        """Approve the login with this user code."""
        self._shown(user_code).login = login

    def deny(self, user_code: str) -> None:
        """Deny the login with this user code."""
        self._shown(user_code).denied = True

    def _shown(self, user_code: str) -> Device:
        return next(device for device in self.devices.values() if device.user_code == user_code)

    # --- answers ----------------------------------------------------------------------------------

    def start(self, fields: Mapping[str, str], origin: str, now: float) -> dict[str, Any] | int:
        """Start a device login; return the response's fields, or the HTTP status of an error."""
        client = self.clients.get(fields.get("client_id", ""))
        if client is None:
            return 404
        if not client.device_flow:
            return {"error": "device_flow_disabled"}
        letters = "BCDFGHJKLMNPQRSTVWXZ"
        user_code = "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(2))
        device = Device(
            secrets.token_hex(20),
            user_code,
            client,
            fields.get("scope", ""),
            now + self.code_seconds,
            self.interval,
        )
        self.devices[device.code] = device
        self.on_device(device)
        return {
            "device_code": device.code,
            "user_code": user_code,
            "verification_uri": f"{origin}/login/device",
            "expires_in": self.code_seconds,
            "interval": self.interval,
        }

    def token(self, fields: Mapping[str, str], now: float) -> dict[str, Any]:
        """Answer a poll for a device's token, or a refresh."""
        client = self.clients.get(fields.get("client_id", ""))
        if client is None:
            return {"error": "incorrect_client_credentials"}
        match fields.get("grant_type"):
            case "refresh_token":
                return self._refreshed(client, fields.get("refresh_token", ""), now)
            case grant if grant == DEVICE_GRANT:
                return self._polled(client, fields.get("device_code", ""), now)
        return {"error": "unsupported_grant_type"}

    def _polled(self, client: Client, code: str, now: float) -> dict[str, Any]:
        device = self.devices.get(code)
        if device is None or device.client is not client:
            return {"error": "incorrect_device_code"}
        if now >= device.expires:
            return {"error": self.expired_word}
        early = now - device.asked_at < device.interval
        device.asked_at = now
        if early:
            device.interval += 5
            return {"error": "slow_down", "interval": device.interval}
        if device.denied:
            return {"error": "access_denied"}
        if device.login is None:
            return {"error": "authorization_pending"}
        del self.devices[code]
        return self.issue(client, device.login, device.scope if client.kind == "gho" else "", now)

    def issue(self, client: Client, login: str, scope: str, now: float) -> dict[str, Any]:
        """Create a token, or a pair, for a user.

        The eleventh of one user, app and scope ends the first.
        """
        self._end_oldest(client, login, scope, now)
        access = Credential(
            f"{client.kind}_{secrets.token_hex(18)}",
            "user",
            f"user:{login}",
            issued=now,
            login=login,
            client_id=client.id,
            scope=scope,
        )
        answer: dict[str, Any] = {
            "access_token": access.value,
            "scope": scope,
            "token_type": "bearer",
        }
        if client.expiring:
            access.expires = now + self.token_seconds
            refresh = Refresh(
                f"ghr_{secrets.token_hex(38)}", client, access, now + self.refresh_seconds
            )
            self.refreshes[refresh.token] = refresh
            answer |= {
                "expires_in": int(self.token_seconds),
                "refresh_token": refresh.token,
                "refresh_token_expires_in": int(self.refresh_seconds),
            }
        self.accounts.credentials[access.value] = access
        return answer

    def _end_oldest(self, client: Client, login: str, scope: str, now: float) -> None:
        """Revoke the oldest tokens of this user, app and scope, so that one more is allowed."""
        living = [
            one
            for one in self.accounts.credentials.values()
            if (one.client_id, one.login, one.scope) == (client.id, login, scope)
            and not one.revoked
            and now < one.expires
        ]
        for oldest in living[: max(0, len(living) - MAX_LIVE_TOKENS + 1)]:
            oldest.revoked = True

    def _refreshed(self, client: Client, token: str, now: float) -> dict[str, Any]:
        found = self.refreshes.get(token)
        if found is not None and found.spent_at is not None:
            found.reused_at.append(now)
        if (
            found is None
            or found.client is not client
            or found.spent_at is not None
            or now >= found.expires
        ):
            return {"error": "bad_refresh_token"}
        found.spent_at = now
        found.access.revoked = True
        return self.issue(client, found.access.login, found.access.scope, now)

    def end(self, client_id: str, authorization: str, token: str, whole_grant: bool) -> int:
        """Revoke one token, or everything its user granted the app; return the HTTP status.

        It needs the client's secret, which no syncd has.
        """
        client = self.clients.get(client_id)
        if client is None:
            return 404
        secret = base64.b64encode(f"{client_id}:{client.secret}".encode()).decode()
        access = self.accounts.credentials.get(token)
        if authorization != f"Basic {secret}" or access is None or access.client_id != client_id:
            return 404
        for one in self.accounts.credentials.values():
            if one is access or (
                whole_grant and one.client_id == client_id and one.login == access.login
            ):
                one.revoked = True
        for pair in self.refreshes.values():
            if pair.access.revoked and pair.spent_at is None:
                pair.expires = 0.0
        return 204
