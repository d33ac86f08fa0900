"""The simulator on loopback, over real sockets: HTTP/1.1 with kept connections and a clean stop.

It has two origins: the API and the archive host.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

from msgspec import Struct

from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub

REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    404: "Not Found",
}


class ServerUrls(Struct, frozen=True):
    """The addresses of a running simulator: of its API and of its archive host."""

    url: str
    archive_url: str


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, github: GitHub, latency_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.github, self.latency_seconds = github, latency_seconds
        self.open: set[socket.socket] = set()
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of one connection: the client is gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # head and body leave in one packet: else each request waits for a delayed ACK
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with suppress(OSError):  # the client is gone
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests are counted."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.server.latency_seconds:
            time.sleep(self.server.latency_seconds)
        answer = self.server.github.handle(
            self.command, self.path, dict(self.headers.items()), body, self.server.url
        )
        if answer.hang_seconds and self.server.stopping.wait(answer.hang_seconds):
            answer = Answer(0, end="reset")
        try:
            self._send(answer)
        except OSError:
            self.close_connection = True

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = _serve

    def _send(self, answer: Answer) -> None:
        if answer.status == 0:
            return self._reset()
        self.send_response_only(answer.status, REASONS.get(answer.status))
        for name, value in (*answer.headers.items(), *answer.extra_headers):
            self.send_header(name, value)
        length = _content_length(answer)
        if length is not None and answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        if length is None or answer.end != "keep":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self._send_body(answer)
        self.wfile.flush()
        if answer.end == "reset":
            self._reset()
        return None

    def _send_body(self, answer: Answer) -> None:
        if answer.pieces is None:
            self.wfile.write(answer.body)
            return
        for piece in answer.pieces:
            if self.server.stopping.is_set():
                break
            self.wfile.write(piece)
            self.wfile.flush()

    def _reset(self) -> None:
        """Close the connection with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _content_length(answer: Answer) -> int | None:
    """Return the length to declare; None for a body of unknown length."""
    if answer.declared_length is not None:
        return answer.declared_length
    return None if answer.pieces is not None else len(answer.body)


@contextmanager
def serve(github: GitHub, latency_seconds: float = 0.0) -> Iterator[ServerUrls]:
    """Answer on two loopback ports while the block runs.

    No thread and no socket is left after it.
    """
    servers = [_Server(github, latency_seconds) for _ in range(2)]
    threads = [
        threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="syncd-simulator",
            daemon=True,
        )
        for server in servers
    ]
    for thread in threads:
        thread.start()
    github.codeload_origin = servers[1].url
    try:
        yield ServerUrls(servers[0].url, servers[1].url)
    finally:
        for server in servers:
            server.stopping.set()
            server.shutdown()
            for connection in list(server.open):
                _close(connection)
            server.server_close()
        for thread in threads:
            thread.join()


def _close(connection: socket.socket) -> None:
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)
