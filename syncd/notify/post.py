"""One message to one address, and what came of it; nothing of the address but its host is ever shown.

Promises: TLS is verified; no redirect is followed, so neither the message nor what the address holds goes elsewhere; all of it ends within
`SECONDS`, whatever the other side does. It has a small client of its own because GitHub's transport is made for GitHub: it retries,
waits and counts as GitHub wants it, and knows which hosts may see a token.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from syncd.tls import machine_context

SECONDS = 20.0
STEP_SECONDS = 10.0
ANSWER_BYTES = 4096
LONGEST_PAUSE_SECONDS = 3600.0
PORTS = {"https": 443, "http": 80}


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


def post(address: str, body: str, agent: str, authorities: str | None, proxy: str | None) -> Outcome:
    """`body`, which is JSON, was posted to an address that was judged. Never raises for what the network or the other side does."""
    host, parts = host_of(address), urlsplit(address)
    try:
        connection = _connection(parts, authorities, proxy)
    except (OSError, ValueError) as error:
        return Outcome(host, f"can't be reached: {_words(error)}")
    late = threading.Event()
    ends = threading.Timer(SECONDS, _hang_up, [connection, late])
    ends.daemon = True
    ends.start()
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body.encode(), _headers(parts, agent))
        answer = connection.getresponse()
        answer.read(ANSWER_BYTES)
        return Outcome(host, _verdict(answer.status), _pause(answer.getheader("Retry-After")))
    except ssl.SSLCertVerificationError as error:
        return Outcome(host, f"its certificate can't be trusted: {error.verify_message}")
    except TimeoutError:
        return Outcome(host, "did not answer in time")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Outcome(host, f"can't be reached: {_words(error)}" if not late.is_set() else "did not answer in time")
    finally:
        ends.cancel()
        connection.close()


def _connection(parts: SplitResult, authorities: str | None, proxy: str | None) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=STEP_SECONDS)
    context = machine_context(*filter(None, [authorities]))  # the machine's own too, for a company's receivers
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=STEP_SECONDS, context=context)
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = http.client.HTTPSConnection(through.hostname or "", through.port or PORTS["http"], timeout=STEP_SECONDS, context=context)
    connection.set_tunnel(host, port, {"Proxy-Authorization": _basic(through)} if through.username else {})
    return connection


def _headers(parts: SplitResult, agent: str) -> Mapping[str, str]:
    own = {"Authorization": _basic(parts)} if parts.username else {}
    return {"Content-Type": "application/json", "User-Agent": agent, "Connection": "close", **own}


def _basic(parts: SplitResult) -> str:
    return "Basic " + base64.b64encode(f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()).decode()


def _verdict(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered {status}: it sends us elsewhere, and a redirect is not followed; write the address that it leads to"
    return f"answered {status}"


def _pause(text: str | None) -> float | None:
    """Retry-After in seconds; its form as a date is not heeded."""
    return min(float(text), LONGEST_PAUSE_SECONDS) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """Whoever reads or writes there gets an error."""
    late.set()
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):  # it has ended by itself
            sock.shutdown(socket.SHUT_RDWR)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, http.client.HTTPException) else str(error) or type(error).__name__
