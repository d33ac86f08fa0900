"""The listener: waitress on its own threads, opened and closed by whoever runs the jobs.

Promises: a slow or hostile client costs a bounded number of connections, bytes and seconds, and no run waits for any of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import waitress
from waitress import wasyncore

from syncd.config.model import Web as WebConfig
from syncd.config.secrets import read_secret
from syncd.models import Secret
from syncd.redact import remember
from syncd.web.app import make_app
from syncd.web.board import Board
from syncd.web.doors import open_doors

log = logging.getLogger(__name__)
logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it would say of each request that it has to wait

THREADS = 4
CONNECTIONS = 100
IDLE_SECONDS = 30
LOOP_SECONDS = 1.0
LARGEST_HEAD = 16 << 10
LARGEST_BODY = 64 << 10  # nothing here takes a body
STOP_SECONDS = 5.0


class Web:
    """Open from the moment it is made until `close`. Raises ConfigError when the address can't be had or the password can't be read."""

    def __init__(self, web: WebConfig, board: Board, environ: Mapping[str, str]) -> None:
        password = _password(web, environ)
        if password is not None:
            password()  # now, not when somebody asks
        self._doors = open_doors(web.listen, environ, password is not None)
        app = make_app(board, password, only_local_names=password is None and self._doors.is_network, show_diffs=web.show_diffs)
        self._map: dict[int, Any] = {}
        server = waitress.create_server(
            app, map=self._map, sockets=self._doors.sockets, threads=THREADS, connection_limit=CONNECTIONS, channel_timeout=IDLE_SECONDS, cleanup_interval=IDLE_SECONDS // 3,
            max_request_header_size=LARGEST_HEAD, max_request_body_size=LARGEST_BODY, ident=None, log_socket_errors=False,
        )  # fmt: skip
        self._dispatcher = server.task_dispatcher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="syncd-web", daemon=True)
        self._thread.start()
        log.info("listening on %s", ", ".join(self.names))
        if not self._doors.local_only:
            log.warning("others than this machine can reach the status page: put a proxy with TLS in front, or the password goes over the wire in the clear")

    @property
    def names(self) -> list[str]:
        """Where it can be reached."""
        return self._doors.names

    def close(self) -> None:
        """Nothing is listening any more; what was being answered has had some seconds to end."""
        self._stop.set()
        trigger = next((one for one in self._map.values() if hasattr(one, "pull_trigger")), None)
        if trigger is not None:
            trigger.pull_trigger()
        self._thread.join(STOP_SECONDS)
        self._dispatcher.shutdown(timeout=STOP_SECONDS)
        if not self._thread.is_alive() and not self._dispatcher.threads:  # else somebody would wake the loop through a descriptor that is another file by then
            wasyncore.close_all(self._map)
        self._doors.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            wasyncore.loop(timeout=LOOP_SECONDS, use_poll=True, map=self._map, count=1)


def _password(web: WebConfig, environ: Mapping[str, str]) -> Callable[[], Secret] | None:
    """Reads the password, as it is now: a new one is taken up without a restart."""
    ref = web.password
    if ref is None:
        return None

    def read() -> Secret:
        secret = read_secret(ref, environ, "web.password")
        remember(secret)
        return secret

    return read
