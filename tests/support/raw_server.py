"""A server that says exactly what it was given, and keeps what it was told."""

from __future__ import annotations

import socketserver
import ssl
import threading

LOOK_UP_SECONDS = 5.0  # who begins a request and does not end it is not waited for any longer


class RawServer:
    """Says these bytes to each connection in turn (the last one to all that follow), and hangs up.

    `heard` are the heads of requests, byte for byte in latin-1.
    """

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.answers, self.heard = list(answers), list[str]()
        wire = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = LOOK_UP_SECONDS

            def handle(self) -> None:
                told = b""
                while not told.endswith(b"\r\n\r\n"):
                    try:
                        line = self.rfile.readline()
                    except TimeoutError:
                        line = b""
                    if not line:
                        break
                    told += line
                if told:
                    wire.heard.append(told.decode("latin-1"))
                if told.endswith(b"\r\n\r\n"):
                    self.wfile.write(
                        wire.answers.pop(0) if len(wire.answers) > 1 else wire.answers[0]
                    )

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'http' if tls is None else 'https'}://{self.netloc}"

    def __enter__(self) -> RawServer:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


__all__ = ["RawServer"]
