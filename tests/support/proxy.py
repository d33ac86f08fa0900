"""A CONNECT proxy on loopback that leads any name to one port, asks for a password where it has
one, and keeps what it was told.
"""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """`password` is `user:password`, or None; `refuses` is a status for everybody.

    `heard` are the heads of the requests it got.
    """

    def __init__(self, port: int, password: str | None = None, refuses: int | None = None) -> None:
        self.password, self.refuses, self.heard = password, refuses, list[str]()
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline()
                    if not line:
                        return
                    head += line
                proxy.heard.append(head.decode("latin-1"))
                expected = (
                    "Proxy-Authorization: Basic "
                    f"{base64.b64encode((proxy.password or '').encode()).decode()}\r\n"
                )
                if proxy.password is not None and expected not in proxy.heard[-1]:
                    self.wfile.write(
                        b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                        b'Proxy-Authenticate: Basic realm="corp"\r\nContent-Length: 0\r\n'
                        b"Connection: close\r\n\r\n"
                    )
                    return
                if proxy.refuses is not None:
                    self.wfile.write(
                        (
                            f"HTTP/1.1 {proxy.refuses} No\r\nContent-Length: 0\r\n"
                            "Connection: close\r\n\r\n"
                        ).encode()
                    )
                    return
                with socket.create_connection(("127.0.0.1", port)) as beyond:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    other = threading.Thread(
                        target=_carry, args=(beyond, self.connection), daemon=True
                    )
                    other.start()
                    _carry(self.connection, beyond)
                    other.join(30)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
