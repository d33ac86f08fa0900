"""Tells the endpoints of `notify:` when a job's state has changed, once, from whichever process saw it, and never in the way of a run.

What is to be said is kept in the store with the job's state; a thread of its own sends it, tries again with growing pauses for a day, and
gives up then. Safe to use from many threads. Nothing here fails a run: what goes wrong is logged, and stands in `syncd status`.
"""

from __future__ import annotations

import logging
import random
import secrets
import socket
import threading
from collections.abc import Callable, Mapping

from syncd import __version__
from syncd.clock import Clock
from syncd.config.model import Config, Endpoint
from syncd.config.secrets import inspect_address, read_secret
from syncd.errors import ConfigError, RemoteUnavailableError, SyncdError
from syncd.github.proxies import Proxies, split_login
from syncd.github.sessions import Route, post_once
from syncd.github.urls import default_ca_file
from syncd.models import RunReport
from syncd.notifications import events
from syncd.notifications.http_post import Outcome, Send, host_of, post
from syncd.redaction import Secret, add_secret
from syncd.store.notification_queue import FailedAttempt, NewNotification, PendingNotification
from syncd.store.store import SqliteStore
from syncd.tls import machine_context

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 3600.0
GIVE_UP_SECONDS = 86_400.0
LOOK_SECONDS = 60.0  # how long another process' messages may wait for us to notice them


class Messenger:
    """Sends between `start` and `close`; without endpoints it has nothing to do, and no thread."""

    def __init__(
        self,
        config: Config,
        store: SqliteStore,
        clock: Clock,
        environ: Mapping[str, str],
        proxies: Proxies,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._clock, self._environ, self._proxies, self._chance = (
            store,
            clock,
            environ,
            proxies,
            chance,
        )
        self._endpoints: tuple[Endpoint, ...] = ()
        self._host = socket.gethostname()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._rung = self._started = self._closing = False
        self.use(config)

    def use(self, config: Config) -> None:
        """From here on the endpoints are this configuration's."""
        self._endpoints = config.endpoints()
        self._wake()

    def start(self) -> None:
        """What waits from before is on its way, and what comes will be."""
        self._started = True
        self._wake()

    def consider(self, report: RunReport) -> None:
        """Whoever wants to hear of what this run has changed will; nobody, when nothing has. The run is over and in the store."""
        try:
            if self._consider(report):
                self._wake()
        except SyncdError as error:
            log.warning("can't note that somebody is to be told of %s: %s", report.job, error)

    def _consider(self, report: RunReport) -> bool:
        state, endpoints = self._store.state(report.job), self._endpoints
        after = events.alert_state(report, state, state.notified_as) if endpoints else events.WELL
        changed = events.events(state.notified_as, after)
        if not changed:
            return False
        identity, now = secrets.token_hex(8), self._clock.now()
        chosen = [
            (endpoint, event)
            for endpoint in endpoints
            if (event := events.event_for(changed, endpoint.when)) is not None
        ]
        bodies = {
            endpoint.name: events.body(identity, event, report, state, self._host, now)
            for endpoint, event in chosen
        }
        new = NewNotification(identity, bodies, now.timestamp())
        queued = self._store.queue_notifications(report.job, state.notified_as, after, new)
        return queued and bool(bodies)

    def close(self, wait_seconds: float) -> None:
        """What can be sent at once has been, within so much time; the rest waits in the store for the next who looks."""
        with self._changed:
            thread, self._closing, self._rung = self._thread, True, True
            self._changed.notify_all()
        if thread is not None:
            thread.join(wait_seconds)

    def send_due(self) -> float:
        """Everything whose time has come was tried (of an endpoint that fails, one message); how many seconds until there is something to send again. Raises StoreError."""
        while (
            one := self._store.notifications.claim(
                [endpoint.name for endpoint in self._endpoints], self._now()
            )
        ) is not None:
            self._send(one)
        next_at = self._store.notifications.next_at(self._now())
        return (
            LOOK_SECONDS if next_at is None else min(LOOK_SECONDS, max(0.0, next_at - self._now()))
        )

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._rung = True
            if self._thread is None and self._endpoints and self._started and not self._closing:
                self._thread = threading.Thread(
                    target=self._work, name="syncd-messages", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._rung = False
            pause = LOOK_SECONDS
            try:
                pause = self.send_due()
            except SyncdError as error:
                log.warning("can't send messages: %s", error)
            with self._changed:
                if pause > 0 and not self._rung:
                    if self._closing:
                        return
                    self._changed.wait(pause)

    def _send(self, one: PendingNotification) -> None:
        endpoint = next(
            (endpoint for endpoint in self._endpoints if endpoint.name == one.endpoint), None
        )
        if endpoint is None:
            return  # the configuration has changed since; it is dropped at the next look
        outcome = self._post(endpoint, one.body)
        now = self._now()
        if outcome.why is None:
            self._store.notifications.mark_sent(one, outcome.host, now)
            log.info("told %s of %s", outcome.host, one.job)
            return
        pause = max(self._pause(one.failures), outcome.pause_seconds or 0.0)
        given_up = now + pause - one.created_at > GIVE_UP_SECONDS
        attempt = FailedAttempt(outcome.host, outcome.why, now, now + pause, given_up)
        self._store.notifications.mark_failed(one, attempt)
        ending = (
            "it is given up" if given_up else "it is tried again" if one.failures == 0 else None
        )
        if ending is not None:
            log.warning(
                "can't tell %s (%s) of %s: %s; %s",
                outcome.host,
                endpoint.name,
                one.job,
                outcome.why,
                ending,
            )

    def _post(self, endpoint: Endpoint, body: str) -> Outcome:
        try:
            secret = read_secret(endpoint.address, self._environ, "notify.webhook")
        except ConfigError as error:
            return Outcome("?", error.message)
        address = secret.reveal()
        remember_address(secret)
        problem = inspect_address(secret)
        if problem is not None:
            return Outcome(host_of(address), f"{endpoint.name}: {problem}")
        return post(
            address,
            body,
            f"syncd/{__version__}",
            message_sender(default_ca_file(), self._proxies.for_url(address)),
        )

    def _pause(self, failures: int) -> float:
        """The endpoint's next pause: growing, with jitter: half of it at least, so that a receiver gets its time."""
        return float(
            min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures, 20))
            * (0.5 + self._chance() / 2)
        )

    def _now(self) -> float:
        return self._clock.now().timestamp()


def message_sender(authorities: str | None, proxy: str | None) -> Send:
    """Sends through the client that GitHub is asked with. The machine's own authorities count too, for a company's receivers."""

    def send(
        url: str, message: bytes, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str | None]:
        if url.startswith("http:"):  # of this machine: no TLS, and no proxy
            return post_once(Route(None), url, message, headers, seconds)
        try:
            context = machine_context(*filter(None, [authorities]))
        except OSError as error:
            raise RemoteUnavailableError(f"can't be reached: {error.strerror or error}") from error
        address, login = split_login(proxy) if proxy is not None else ("", None)
        return post_once(Route(context, address, login, context), url, message, headers, seconds)

    return send


def remember_address(secret: Secret) -> None:
    """Neither the address nor what of it is the receiver's key gets into any output."""
    add_secret(secret)
    _, _, rest = secret.reveal().partition(host_of(secret.reveal()))
    if len(rest) > 1:
        add_secret(Secret(rest))


__all__ = ["Messenger", "message_sender", "remember_address"]
