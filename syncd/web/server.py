"""Web listener: waitress on its own threads, opened and closed by the process that runs the jobs.

A slow or hostile client costs a bounded number of connections, bytes and seconds, and no run waits
for it. A listener thread that died is started again, and `stall_reason` reports one that does not
answer.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import waitress
from waitress import wasyncore

from syncd.config.model import Web as WebConfig
from syncd.config.secrets import read_web_secret
from syncd.identities import SecretRef
from syncd.redaction import Secret, add_secret
from syncd.web.access import AccessControl, Names
from syncd.web.app import make_app
from syncd.web.clients import Proxies
from syncd.web.failed_attempts import FailureLimits
from syncd.web.passwords import Passwords, Reader
from syncd.web.ports import StatusSource
from syncd.web.request_limits import (
    REQUEST_BUFFER_BYTES,
    RateLimitedLogFilter,
    close_overdue,
    connections,
    max_connections,
    opener,
    unread_bytes,
)
from syncd.web.sockets import open_sockets
from syncd.web.views import MAX_PAGE_BYTES, Views
from syncd.web.webhook import WebhookEndpoint

log = logging.getLogger(__name__)
logging.getLogger("waitress.queue").setLevel(
    logging.ERROR
)  # it would say of each request that it has to wait
logging.getLogger("waitress").addFilter(RateLimitedLogFilter())

THREADS = 8  # more than all views together may take (views.MAX_CONCURRENT)
IDLE_TIMEOUT_SECONDS = 30
POLL_INTERVAL_SECONDS = 1.0
CROWDED_POLL_INTERVAL_SECONDS = 0.1
MAX_HEADER_BYTES = 16 << 10
MAX_REQUEST_BODY_BYTES = 64 << 10  # nothing here takes a body, save the webhook
STOP_TIMEOUT_SECONDS = 5.0
# How long a thread computes while the loop wants to: Python's default, and in a crowd, where the
# loop has hundreds of system calls in a turn and would wait so long after each of them.
SWITCH_SECONDS, CROWDED_SWITCH_SECONDS = 0.005, 0.0005
ERROR_PAUSE_SECONDS = 1.0  # after a mistake of ours in the loop, which may come again at once
STALL_SECONDS = 60.0


class Web:
    """A listener, open from its creation until `close`.

    Raises ConfigError when the address can't be used or a secret can't be read.
    """

    def __init__(
        self,
        web: WebConfig,
        source: StatusSource,
        environ: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        secrets = _Secrets(web, environ)
        self._sockets = open_sockets(web.listen, environ, web.is_guarded)
        try:
            self._serve(web, source, secrets)
        except BaseException:
            self._sockets.close()
            raise
        log.info("listening on %s", ", ".join(self.names))
        if not self._sockets.local_only:
            log.warning(
                "others than this machine can reach the status page: put a proxy with TLS in "
                "front, or the password goes over the wire in the clear"
            )

    def _serve(self, web: WebConfig, source: StatusSource, secrets: _Secrets) -> None:
        """Start to answer requests."""
        proxies = Proxies(web.trusted_proxies, web.prefix)
        hook = (
            WebhookEndpoint(web.webhook.path, secrets.webhook, source.push_trigger, proxies=proxies)
            if web.webhook is not None and secrets.webhook is not None
            else None
        )
        self._map: dict[int, Any] = {}
        names = Names(not web.is_guarded and self._sockets.is_network, _host_of(web.listen))
        passwords = Passwords(secrets.password, secrets.users, secrets.token)
        access = AccessControl(passwords, names, FailureLimits(self._monotonic), proxies)
        self.app = make_app(
            source,
            access,
            Views(lambda: unread_bytes(self._map), self._monotonic),
            web,
            hook,
        )
        server = waitress.create_server(
            self.app,
            map=self._map,
            sockets=self._sockets.sockets,
            threads=THREADS,
            connection_limit=max_connections(),
            channel_timeout=IDLE_TIMEOUT_SECONDS,
            cleanup_interval=IDLE_TIMEOUT_SECONDS // 3,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=MAX_REQUEST_BODY_BYTES,
            inbuf_overflow=REQUEST_BUFFER_BYTES,
            outbuf_overflow=2 * MAX_PAGE_BYTES,
            clear_untrusted_proxy_headers=False,
            ident=None,
            url_prefix=proxies.prefix,
            log_socket_errors=False,
        )
        for one in self._map.values():
            if hasattr(one, "channel_class"):  # each socket's server
                one.channel_class = opener(hook, self._map, proxies)
        self._dispatcher = server.task_dispatcher
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._probe: _Probe | None = None
        self._start()

    def _start(self) -> None:
        self._turned_at = self._monotonic()
        self._thread = threading.Thread(target=self._work, name="syncd-web", daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        """Return the addresses as people write them."""
        return self._sockets.names

    def close(self) -> None:
        """Stop listening; answers in progress have some seconds to end.

        The name of a unix socket goes first: a daemon that is stopped may not wait for the rest.
        """
        self._sockets.remove_name()
        self._stop.set()
        self.wake()
        self._thread.join(STOP_TIMEOUT_SECONDS)
        self._dispatcher.shutdown(timeout=STOP_TIMEOUT_SECONDS)
        if (
            not self._thread.is_alive() and not self._dispatcher.threads
        ):  # else a later wake-up would write to a descriptor that is another file by then
            wasyncore.close_all(self._map)
        self._sockets.close()

    def wake(self) -> None:
        """Let the loop take its next turn at once."""
        trigger = next((one for one in self._map.values() if hasattr(one, "pull_trigger")), None)
        if trigger is not None:
            trigger.pull_trigger()

    def connections(self) -> list[Any]:
        """Return the open connections."""
        return connections(self._map)

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well.

        Waits for nothing, and starts a loop that died again.
        """
        with self._guard:
            now = self._monotonic()
            if not self._stop.is_set() and not self._thread.is_alive():
                log.error(
                    "the listener's thread had ended and was started again; please report this "
                    "with the lines before it"
                )
                self._start()
            if self._probe is None or self._probe.served:
                self._probe = _Probe(now)
                self._dispatcher.add_task(self._probe)
            waited, still = now - self._probe.asked_at, now - self._turned_at
            if max(waited, still) <= STALL_SECONDS:
                return None
            return f"the listener has answered no request for {max(waited, still):.0f} s"

    def _work(self) -> None:
        crowded = False
        while not self._stop.is_set():
            self._turned_at = self._monotonic()
            try:
                wasyncore.loop(
                    timeout=CROWDED_POLL_INTERVAL_SECONDS if crowded else POLL_INTERVAL_SECONDS,
                    use_poll=True,
                    map=self._map,
                    count=1,
                )
                was_crowded, crowded = crowded, close_overdue(self._map)
                if crowded is not was_crowded:
                    sys.setswitchinterval(CROWDED_SWITCH_SECONDS if crowded else SWITCH_SECONDS)
            except Exception:
                log.exception(
                    "a bug in syncd, met by the listener; please report it with these lines"
                )
                self._drop_all()
                self._stop.wait(ERROR_PAUSE_SECONDS)
        sys.setswitchinterval(SWITCH_SECONDS)

    def _drop_all(self) -> None:
        """Close every connection: one of them may be why the loop can't go on."""
        for one in self.connections():
            with suppress(Exception):
                one.handle_close()


class _Probe:
    """A task for the answering threads: it only shows that one of them took it."""

    def __init__(self, asked_at: float) -> None:
        self.asked_at, self.served = asked_at, False

    def service(self) -> None:
        """Record that a thread took the task."""
        self.served = True

    def cancel(self) -> None:
        """Record that the task is gone."""
        self.served = True


class _Secrets:
    """Readers of the listener's secrets, each read once now. Raises ConfigError."""

    def __init__(self, web: WebConfig, environ: Mapping[str, str]) -> None:
        def reader(ref: SecretRef | None, what: str) -> Reader | None:
            return None if ref is None else _reader(ref, environ, f"web.{what}")

        self.password = reader(web.password, "password")
        self.token = reader(web.token, "token")
        self.webhook = reader(web.webhook.secret if web.webhook else None, "webhook.secret")
        self.users = {
            name: _reader(ref, environ, f"web.users.{name}.hash") for name, ref in web.users.items()
        }


def _reader(ref: SecretRef, environ: Mapping[str, str], what: str) -> Reader:
    """Return a function that reads the secret as it is now, so that a new one needs no restart.

    Raises ConfigError if it can't be read now.
    """

    def read() -> Secret:
        secret = read_web_secret(ref, environ, what)
        add_secret(secret)
        return secret

    read()
    return read


def _host_of(listen: str) -> str:
    """Return the host of a listening address; empty for a unix socket and one of systemd's."""
    return "" if listen.startswith(("unix:", "fd:")) else listen.rpartition(":")[0].strip("[]")
