"""One message to one address, and what came of it; nothing of the address but its host is ever shown.

How it is sent is given (`Send`): TLS verified, no redirect followed, ended after so many seconds. A redirect would bring the
message, and what the address holds, elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from syncd.errors import RemoteUnavailableError

SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 3600.0

Send: TypeAlias = Callable[[str, bytes, Mapping[str, str], float], tuple[int, str | None]]
"""URL, body, headers and the seconds that it may take -> status and Retry-After. Raises RemoteUnavailableError."""


class Outcome(Struct, frozen=True):
    """`why` is None when it was taken (a status of 2xx); `pause_seconds` is how long the other side asks to be left alone."""

    host: str
    why: str | None = None
    pause_seconds: float | None = None


def host_of(address: str) -> str:
    """What of the address may be shown."""
    try:
        parts = urlsplit(address)
        return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "?"


def post(address: str, body: str, agent: str, send: Send) -> Outcome:
    """`body`, which is JSON, was posted to an address that was judged. Never raises for what the network or the other side does."""
    host, parts = host_of(address), urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        status, retry_after = send(
            f"{parts.scheme}://{name}{port}{target}", body.encode(), _headers(parts, agent), SECONDS
        )
    except RemoteUnavailableError as error:
        return Outcome(host, error.message)
    return Outcome(host, _verdict(status), _pause(retry_after))


def _headers(parts: SplitResult, agent: str) -> Mapping[str, str]:
    own = {"Authorization": _basic(parts)} if parts.username else {}
    return {"Content-Type": "application/json", "User-Agent": agent, **own}


def _basic(parts: SplitResult) -> str:
    return (
        "Basic "
        + base64.b64encode(
            f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        ).decode()
    )


def _verdict(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered {status}: it sends us elsewhere, and a redirect is not followed; write the address that it leads to"
    return f"answered {status}"


def _pause(text: str | None) -> float | None:
    """Retry-After in seconds; its form as a date is not heeded."""
    return (
        min(float(text), LONGEST_PAUSE_SECONDS)
        if text is not None and text.isascii() and text.isdigit() and len(text) < 10
        else None
    )
