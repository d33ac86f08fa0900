"""Post one message to one address, and judge the answer.

Only the host of the address may be shown.

The sender (`Send`) comes from `wiring`: it verifies TLS, follows no redirect and ends after a
timeout. A redirect would send the message, and the secret in its address, to another host.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from syncd.errors import RemoteUnavailableError

TIMEOUT_SECONDS = 20.0
MAX_RETRY_AFTER_SECONDS = 3600.0

Send: TypeAlias = Callable[[str, bytes, Mapping[str, str], float], tuple[int, str | None]]
"""URL, body, headers, timeout in seconds -> status, Retry-After. Raises RemoteUnavailableError."""


class Outcome(Struct, frozen=True):
    """Result of one attempt.

    `error` is None for a status of 2xx. `retry_after_seconds` is how long the receiver asks syncd
    to wait.
    """

    host: str
    error: str | None = None
    retry_after_seconds: float | None = None


def host_of(address: str) -> str:
    """Return the part of an address that may be shown: its host and port; `?` if it has none."""
    try:
        parts = urlsplit(address)
        return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "?"


def post(address: str, body: str, agent: str, send: Send) -> Outcome:
    """Post the JSON `body` to an address that was checked.

    Never raises for the network or the receiver.
    """
    host, parts = host_of(address), urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    url = f"{parts.scheme}://{name}{port}{target}"
    try:
        status, retry_after = send(url, body.encode(), _headers(parts, agent), TIMEOUT_SECONDS)
    except RemoteUnavailableError as error:
        return Outcome(host, error.message)
    return Outcome(host, _error(status), _retry_after_seconds(retry_after))


def _headers(parts: SplitResult, agent: str) -> Mapping[str, str]:
    own = {"Authorization": _basic(parts)} if parts.username else {}
    return {"Content-Type": "application/json", "User-Agent": agent, **own}


def _basic(parts: SplitResult) -> str:
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(login.encode()).decode()


def _error(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return (
            f"answered {status}: it sends us elsewhere, and a redirect is not followed; "
            "write the address that it leads to"
        )
    return f"answered {status}"


def _retry_after_seconds(text: str | None) -> float | None:
    """Return Retry-After in seconds; None for a date, which is not supported."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) >= 10:
        return None
    return min(float(text), MAX_RETRY_AFTER_SECONDS)
