"""Limits how much of a request is read, and how long an answer is kept.

They bound what a client that has proven nothing yet can make us hold.

Promises: only the webhook's path takes a body of any size, of GitHub's largest at most, and only
where its length is declared; all bodies together stay under a bound too. A connection brings
one request and ends with its answer. One whose request is not whole some seconds after it was
accepted is closed, however it drips, and so is one whose answer is not read, or read by drips; both
sooner where many are waited for, so that an honest client finds a place. waitress keeps a body that
is larger than REQUEST_BUFFER_BYTES in a temporary file.

waitress' own `channel_timeout` is no deadline: it counts from the last byte, does not look at a
connection that a thread is busy with, and closes one that is not read only when it can be written
to, which is never.
"""

from __future__ import annotations

import copy
import logging
import math
import resource
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from syncd.github.webhook import MAX_BODY_BYTES
from syncd.web.clients import LOCAL, MAX_CONNECTIONS_PER_CLIENT, Proxies, client_name
from syncd.web.failed_attempts import CLIENT_REFILL_SECONDS
from syncd.web.webhook import WebhookEndpoint

REQUEST_TIMEOUT_SECONDS = 10.0  # GitHub gives a delivery up after so long
CLIENT_READ_TIMEOUT_SECONDS = 10.0  # without a byte of the answer taken
RESPONSE_TIMEOUT_SECONDS = 60.0  # for the whole answer
MAX_CONNECTIONS = 600  # or half of the open files that the process may have
MAX_UNREAD_CONNECTIONS = 100  # whose answer the kernel keeps
MAX_ACCEPTED_AT_ONCE = 64  # connections, between two looks at those that are open
CROWDED_CONNECTIONS = (
    60  # connections that are waited for, some of which could be waited for in vain
)
CROWDED_TIMEOUT_SECONDS = 1.0
LOG_INTERVAL_SECONDS = 60.0
LARGE_BODY_BYTES = 1 << 20
MAX_CONCURRENT_BODY_BYTES = (
    4 * MAX_BODY_BYTES
)  # of large bodies under way; who comes then is told to come again
REQUEST_BUFFER_BYTES = 128 << 10  # of one request in memory
# of one answer in the kernel, which keeps it for a client that is slow (Linux takes twice as many)
SEND_BUFFER_BYTES = 128 << 10
RESET_ON_CLOSE = struct.pack(
    "ii", 1, 0
)  # SO_LINGER: the kernel keeps nothing for a client that does not read


class _Busy(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class _TooMany(Error):  # type: ignore[misc]
    code = 429
    reason = "Too Many Requests"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        status, headers, body = super().to_response(ident)
        seconds = str(math.ceil(CLIENT_REFILL_SECONDS))  # the longest wait for one try
        return status, [*headers, ("Retry-After", seconds)], body


Opener = Callable[[Any, socket.socket, Any, Any, Any], None]


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads one request of a connection.

    A delivery that is refused is refused at its head, before its body.
    """

    adj: Any
    completed: bool

    def __init__(
        self, adj: Any, peer: str | None, hook: WebhookEndpoint | None, channels: Mapping[int, Any]
    ) -> None:
        super().__init__(adj)
        self._peer, self._hook, self._channels = peer, hook, channels

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        return (
            len(data) if self.completed and not self.empty else taken
        )  # what follows is another request

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        self.headers["CONNECTION"] = "close"
        hook = self._hook
        if hook is None or self.command != "POST" or self.chunked:
            return
        if self.path not in hook.proxies.spellings(hook.path):
            return
        self.adj = copy.copy(self.adj)
        self.adj.max_request_body_size = (
            MAX_BODY_BYTES + 1
        )  # waitress refuses what is as long as this
        self._judge(hook)
        if self.error is not None or self.content_length > MAX_BODY_BYTES:
            self.expect_continue = (
                False  # else waitress would ask for it, and take it in all the same
            )

    def _judge(self, hook: WebhookEndpoint) -> None:
        client = hook.proxies.client(self._peer, self.headers.get("X_FORWARDED_FOR"))
        if hook.refuses(client, self.content_length):
            self.error = _TooMany("too many wrong signatures; try again later")
        elif LARGE_BODY_BYTES < self.content_length <= MAX_BODY_BYTES:
            under_way = sum(map(_held, list(self._channels.values())))  # this one counted
            if under_way > MAX_CONCURRENT_BODY_BYTES:
                self.error = _Busy("other large deliveries are being taken in; deliver it again")
        self.completed = self.completed or self.error is not None


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows when it made progress last, and since when its answer waits to be
    read.
    """

    request: Any = None

    # six parameters: the first five are those that waitress calls it with
    def __init__(
        self,
        server: Any,
        sock: socket.socket,
        addr: Any,
        adj: Any,
        channels: Any,
        hook: WebhookEndpoint | None,
    ) -> None:
        self.client = client_name(addr[0])
        self.since = self.progressed = time.monotonic()
        self.answered_since: float | None = None
        self.parser_class = lambda adj: _Parser(adj, addr[0], hook, channels)
        super().__init__(server, sock, addr, adj, map=channels)

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        if sent:
            self.progressed = time.monotonic()
        return sent

    def write_soon(self, data: Any) -> int:
        if self.answered_since is None:
            self.answered_since = self.progressed = time.monotonic()
        written: int = super().write_soon(data)
        return written

    def handle_close(self) -> None:
        request, self.request = self.request, None
        super().handle_close()
        if request is not None:
            request.close()


def opener(
    hook: WebhookEndpoint | None, channels: Mapping[int, Any], proxies: Proxies | None = None
) -> Opener:
    """Return what waitress does with each accepted connection.

    `channels` are all open ones, among other entries. A trusted proxy may open any number, because
    its clients share them.
    """
    shared = proxies or Proxies()

    def open_one(server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any) -> None:
        if _has_its_share(addr[0], channels, shared):
            _reset(sock)
            sock.close()
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            _Channel(server, sock, addr, adj, map, hook)

    def open_channel(server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any) -> None:
        """Open this connection, and others that wait: one at a time would let a crowd queue up."""
        open_one(server, sock, addr, adj, map)
        with suppress(OSError):  # as waitress does: the client is gone
            for _ in range(MAX_ACCEPTED_AT_ONCE - 1):
                accepted = server.accept() if len(map) < adj.connection_limit else None
                if accepted is None:
                    return
                server.set_socket_options(accepted[0])
                open_one(server, accepted[0], server.fix_addr(accepted[1]), adj, map)

    return open_channel


def _has_its_share(peer: str, channels: Mapping[int, Any], proxies: Proxies) -> bool:
    """Return whether a client that reaches the listener itself has all connections it may have."""
    client = client_name(peer)
    if client == LOCAL or proxies.trusts(peer):
        return False
    mine = [one for one in connections(channels) if one.client == client]
    return len(mine) >= MAX_CONNECTIONS_PER_CLIENT


def max_connections() -> int:
    """Return how many connections may be open: jobs need open files too."""
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def connections(channels: Mapping[int, Any]) -> list[Any]:
    """Return the open connections, without the listening sockets and the loop's own entry."""
    return [one for one in list(channels.values()) if hasattr(one, "answered_since")]


def unread_bytes(channels: Mapping[int, Any]) -> int:
    """Return the bytes of answers that clients have not read."""
    return sum(one.total_outbufs_len for one in connections(channels))


def close_overdue(channels: Mapping[int, Any]) -> bool:
    """Close connections whose request or whose reading takes too long; sooner in a crowd.

    Call it only on the loop's thread. Returns whether there is a crowd: then it should be called
    again soon.
    """
    now = time.monotonic()
    waiting = [
        one for one in connections(channels) if not one.requests and one.answered_since is None
    ]
    unread = [
        one
        for one in connections(channels)
        if one.answered_since is not None and one.total_outbufs_len
    ]
    crowded = len(waiting) + len(unread) > CROWDED_CONNECTIONS
    for one in waiting:
        if now - one.since > (CROWDED_TIMEOUT_SECONDS if crowded else REQUEST_TIMEOUT_SECONDS):
            one.handle_close()
    unread.sort(key=lambda one: one.progressed)
    surplus = len(unread) - MAX_UNREAD_CONNECTIONS
    idle_seconds = CROWDED_TIMEOUT_SECONDS if crowded else CLIENT_READ_TIMEOUT_SECONDS
    for number, one in enumerate(unread):
        is_late = now - one.answered_since > RESPONSE_TIMEOUT_SECONDS
        if number < surplus or is_late or now - one.progressed > idle_seconds:
            _reset(one.socket)
            one.handle_close()
    return crowded


def _reset(sock: socket.socket) -> None:
    """Let a close discard what the client has not read."""
    with suppress(OSError):  # it is gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


class RateLimitedLogFilter(logging.Filter):
    """Logs waitress' message about a crowd once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        now, text = time.monotonic(), str(record.msg)
        if not text.startswith("total open connections"):
            return True
        if now - self._said.get(text, -LOG_INTERVAL_SECONDS) < LOG_INTERVAL_SECONDS:
            return False
        self._said[text] = now
        return True


def _held(channel: Any) -> int:
    """Return the bytes of large bodies that this connection has sent or announced."""
    requests = [
        *getattr(channel, "requests", ()),
        *([channel.request] if getattr(channel, "request", None) is not None else []),
    ]
    return sum(
        one.content_length
        for one in requests
        if one.content_length > LARGE_BODY_BYTES and one.error is None
    )


__all__ = [
    "REQUEST_BUFFER_BYTES",
    "RateLimitedLogFilter",
    "close_overdue",
    "connections",
    "max_connections",
    "opener",
    "unread_bytes",
]
