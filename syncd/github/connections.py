"""Connections of urllib3 that belong to one request while it uses them.

The bytes that arrive are counted, the address that answers is checked, and another thread can end
the request. What depends on the inside of the HTTP library is here, in sessions.py and in
exchange.py. The limits themselves are in bounds.py, and which address may answer is in urls.py, so
both stay when the library changes: another one needs a hook after connecting, one around the bytes
that it reads, and one that closes the socket.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import urllib3
from urllib3 import connection as library
from urllib3 import exceptions
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from syncd.errors import BadResponseError
from syncd.github.bounds import ADDRESSES_TRIED, CONNECT_SECONDS, INTERIM_ANSWERS

_CURRENT = threading.local()  # .watch: of the request that this thread sends
# Guards which request owns a socket: a connection goes from one request to the next.
_LOCK = threading.Lock()


class RequestCancelledError(OSError):
    """The request was cancelled: its result is not needed any more."""


class Watch:
    """One request's control over the socket that it uses.

    `on_connected` is called with the address that answers, and may raise to refuse it. `is_sent` is
    True once the request's head has been given to a connection.
    """

    def __init__(self, max_bytes: int, subject: str, on_connected: Callable[[str], None]) -> None:
        self._left, self._subject, self.on_connected = max_bytes, subject, on_connected
        self.is_sent = self._cancelled = False
        self._handle: socket.socket | None = None
        self._connection: Any = None
        self._serial = 0

    def activate(self) -> None:
        """Attach the connections that this thread uses from now on to this watch."""
        _CURRENT.watch = self

    def attach(self, connection: Any, sock: socket.socket) -> None:
        """Note that the request uses this socket of the connection.

        Raises RequestCancelledError after `cancel`.
        """
        with _LOCK:
            if self._cancelled:
                raise RequestCancelledError("the request was cancelled")
            self._release()
            # a descriptor of its own: TLS takes the library's away while it shakes hands
            self._handle = socket.socket(fileno=os.dup(sock.fileno()))
            self._connection, self._serial, connection.watch = connection, connection.serial, self

    def count_bytes(self, size: int) -> None:
        """Count bytes that have arrived.

        Raises BadResponseError past the limit, RequestCancelledError after `cancel`.
        """
        self._left -= size
        if self._cancelled:
            raise RequestCancelledError("the request was cancelled")
        if self._left < 0:
            raise BadResponseError(
                f"the answer for {self._subject} goes on beyond what it may have, headers and "
                "framing included",
                id="bad_response/too-large",
                hint="nothing was changed",
            )

    def cancel(self) -> None:
        """Make reads and writes of the socket fail at once, unless another request has it."""
        with _LOCK:
            self._cancelled = True
            is_reused = (
                self._connection is not None
                and self._connection.serial == self._serial
                and self._connection.watch is not self
            )
            if self._handle is not None and not is_reused:
                with suppress(OSError):  # it has ended by itself
                    self._handle.shutdown(socket.SHUT_RDWR)
            self._release()

    def detach(self) -> None:
        """Note that the request is done with the socket."""
        with _LOCK:
            self._release()

    def _release(self) -> None:
        if self._handle is not None:
            self._handle.close()
        self._handle = self._connection = None


class _CountingReader(io.RawIOBase):
    """The bytes of a socket, each piece counted."""

    def __init__(self, raw: Any, watch: Watch) -> None:
        self._raw, self._watch = raw, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._raw.readinto(buffer)
        self._watch.count_bytes(size or 0)
        return size

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _HTTPResponse(http.client.HTTPResponse):
    """The standard library's response, with a limit on interim answers.

    The library reads `100 Continue` and headers for as long as they come.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._heads = 0
        watch = getattr(_CURRENT, "watch", None)
        if watch is not None:
            self.fp: Any = io.BufferedReader(_CountingReader(self.fp.detach(), watch))

    def _read_status(self) -> tuple[str, int, str]:
        self._heads += 1
        if self._heads > INTERIM_ANSWERS + 1:
            raise BadResponseError(
                f"the server said 100 Continue more than {INTERIM_ANSWERS} times before its answer",
                id="bad_response/interim-answers",
                hint="check what is between this machine and GitHub",
            )
        return super()._read_status()  # type: ignore[misc, no-any-return]


class _WatchedConnection:
    """What both kinds of connection share: the watch of the request that uses them."""

    response_class: Any = _HTTPResponse
    watch: Watch | None = None
    serial = 0  # of the socket: how often the connection was made

    def request(self: Any, *arguments: Any, **options: Any) -> None:
        if self.sock is not None:
            _CURRENT.watch.attach(self, self.sock)
        super().request(*arguments, **options)  # type: ignore[misc]
        _CURRENT.watch.is_sent = True

    def _new_conn(self: Any) -> socket.socket:
        """Connect as the library does, but within one time limit for all addresses of the name.

        The address that answers is checked before anything is sent.
        """
        self.serial += 1
        try:
            sock = _connected(self)
        except socket.gaierror as error:
            raise exceptions.NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise exceptions.LocationParseError(
                f"{self.host}: a label is empty or too long"
            ) from error
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(
                self, f"connecting to {self.host} took too long"
            ) from error
        except OSError as error:
            raise exceptions.NewConnectionError(
                self, f"Failed to establish a new connection: {error}"
            ) from error
        if self.proxy is None:  # a proxy looks the name up, and alone knows which address answers
            try:
                _CURRENT.watch.on_connected(sock.getpeername()[0])
            except BaseException:
                sock.close()
                raise
        return sock


def _connected(connection: Any) -> socket.socket:
    ends, error = time.monotonic() + CONNECT_SECONDS, OSError("the name has no address")
    host = connection.host.strip("[]")
    host.encode("idna")
    addresses = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)[:ADDRESSES_TRIED]
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = max(0.1, ends - time.monotonic())
        sock = socket.socket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(left if index == len(addresses) - 1 else left / 2)
            _CURRENT.watch.attach(connection, sock)
            sock.connect(address)
        except OSError as found:
            sock.close()
            error = found
            if isinstance(found, RequestCancelledError):
                break
            continue
        sock.settimeout(
            connection.timeout if isinstance(connection.timeout, (int, float)) else CONNECT_SECONDS
        )
        return sock
    raise error


class HTTPConnection(_WatchedConnection, library.HTTPConnection):
    """A plain connection; named as the library's, because its texts name the class.

    network_errors.py removes the name from messages.
    """


class HTTPSConnection(_WatchedConnection, library.HTTPSConnection):
    """A TLS connection. It has the library's class name, for the same reason."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = HTTPConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = HTTPSConnection


def watched(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Let the manager make connections that attach to the watch of the thread that uses them."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return manager


__all__ = ["Watch", "watched"]
