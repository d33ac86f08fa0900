"""Connections of urllib3 that one request holds: what arrives is counted, who answers is judged, and another thread can end it.

All that knows the inside of the HTTP library is here and in transport.py. The limits themselves are those of bounds.py, and which
address may answer is said in urls.py, so both stay when the library changes: another one needs a hook after connecting, one
around the bytes that it reads, and one that closes the socket.
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
_GUARD = threading.Lock()  # over whose socket it is: a connection goes from one request to the next


class RequestCancelledError(OSError):
    """Nobody waits for this request any more."""


class Watch:
    """One request's hold on the socket that it uses. `connected` is called with the address that answers, and may refuse it."""

    def __init__(self, max_bytes: int, subject: str, connected: Callable[[str], None]) -> None:
        self._left, self._subject, self.connected = max_bytes, subject, connected
        self._ended = False
        self._handle: socket.socket | None = None
        self._connection: Any = None
        self._serial = 0

    def begin(self) -> None:
        """From here on, connections that this thread uses are held by this watch."""
        _CURRENT.watch = self

    def hold(self, connection: Any, sock: socket.socket) -> None:
        """The request uses this socket of the connection. Raises RequestCancelledError after `end`."""
        with _GUARD:
            if self._ended:
                raise RequestCancelledError("given up")
            self._drop()
            # a descriptor of its own: TLS takes the library's away while it shakes hands
            self._handle = socket.socket(fileno=os.dup(sock.fileno()))
            self._connection, self._serial, connection.watch = connection, connection.serial, self

    def count(self, size: int) -> None:
        """So many bytes have arrived. Raises BadResponseError past the limit, RequestCancelledError after `end`."""
        self._left -= size
        if self._ended:
            raise RequestCancelledError("given up")
        if self._left < 0:
            raise BadResponseError(
                f"the answer for {self._subject} goes on beyond what it may have, with all that frames it",
                hint="nothing was changed",
            )

    def end(self) -> None:
        """Whoever reads or writes at the socket gets an error at once, unless another request has it by now."""
        with _GUARD:
            self._ended = True
            passed_on = (
                self._connection is not None
                and self._connection.serial == self._serial
                and self._connection.watch is not self
            )
            if self._handle is not None and not passed_on:
                with suppress(OSError):  # it has ended by itself
                    self._handle.shutdown(socket.SHUT_RDWR)
            self._drop()

    def let_go(self) -> None:
        """The request is done with the socket."""
        with _GUARD:
            self._drop()

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.close()
        self._handle = self._connection = None


class _Counted(io.RawIOBase):
    """What a socket gives, with each piece counted."""

    def __init__(self, raw: Any, watch: Watch) -> None:
        self._raw, self._watch = raw, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._raw.readinto(buffer)
        self._watch.count(size or 0)
        return size

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """As the standard library's, which reads `100 Continue` and headers for as long as they come."""

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self._heads = 0
        watch = getattr(_CURRENT, "watch", None)
        if watch is not None:
            self.fp: Any = io.BufferedReader(_Counted(self.fp.detach(), watch))

    def _read_status(self) -> tuple[str, int, str]:
        self._heads += 1
        if self._heads > INTERIM_ANSWERS + 1:
            raise BadResponseError(
                f"the server said 100 Continue more than {INTERIM_ANSWERS} times before its answer",
                hint="check what stands between here and GitHub",
            )
        return super()._read_status()  # type: ignore[misc, no-any-return]


class _Held:
    """What both kinds of connection have: the watch of the request that uses them."""

    response_class: Any = _Answer
    watch: Watch | None = None
    serial = 0  # of the socket: how often the connection was made

    def request(self: Any, *arguments: Any, **more: Any) -> None:
        if self.sock is not None:
            _CURRENT.watch.hold(self, self.sock)
        super().request(*arguments, **more)  # type: ignore[misc]

    def _new_conn(self: Any) -> socket.socket:
        """As the library's, for all addresses of the name within a limit of time, and judged before anything is sent."""
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
        if self.proxy is None:  # else the proxy has looked the name up, and alone knows who answers
            try:
                _CURRENT.watch.connected(sock.getpeername()[0])
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
            _CURRENT.watch.hold(connection, sock)
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


class HTTPConnection(_Held, library.HTTPConnection):
    """Named as the library's, because its texts name the class (network_errors.py)."""


class HTTPSConnection(_Held, library.HTTPSConnection):
    """As above."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = HTTPConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = HTTPSConnection


def watched(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """The manager, whose connections are held by the watch of the thread that uses them."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return manager


__all__ = ["Watch", "watched"]
