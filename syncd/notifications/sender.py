"""Send a message to the endpoints of `notify:` when a job's state has changed.

Messages are queued in the store together with the job's state, by whichever process ran the job. A
thread sends them, retries with growing pauses for a day, and then gives up. No run waits for a
message or fails because of one: failures are logged and shown by `syncd status`.
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
from syncd.errors import ConfigError, SyncdError
from syncd.models import RunReport
from syncd.notifications import events
from syncd.notifications.http_post import Outcome, Send, host_of, post
from syncd.redaction import Secret, add_secret
from syncd.store.notification_queue import FailedAttempt, NewNotification, PendingNotification
from syncd.store.store import SqliteStore

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 30.0
MAX_RETRY_SECONDS = 3600.0
GIVE_UP_SECONDS = 86_400.0
POLL_INTERVAL_SECONDS = 60.0  # messages that another process queued are found within this time


class NotificationSender:
    """Queues messages at any time, and sends them between `start` and `close`.

    Safe to use from many threads.

    `sender_for` makes the HTTP sender for an address. Without endpoints there is no thread.
    Six parameters: all are collaborators, and the last one is for tests.
    """

    def __init__(
        self,
        config: Config,
        store: SqliteStore,
        clock: Clock,
        environ: Mapping[str, str],
        sender_for: Callable[[str], Send],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._clock, self._environ = store, clock, environ
        self._sender_for, self._jitter = sender_for, jitter
        self._endpoints: tuple[Endpoint, ...] = ()
        self._host = socket.gethostname()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = self._started = self._closing = False
        self.replace_config(config)

    def replace_config(self, config: Config) -> None:
        """Use the endpoints of this configuration from now on."""
        self._endpoints = config.endpoints()
        self._wake()

    def start(self) -> None:
        """Start to send: the messages in the store, and those that are queued later."""
        self._started = True
        self._wake()

    def notify(self, report: RunReport) -> None:
        """Queue a message if this run changed the job's state.

        The run is over, and its state is stored.
        """
        try:
            if self._queue(report):
                self._wake()
        except SyncdError as error:
            log.warning("syncd can't queue a notification about %s: %s", report.job, error)

    def _queue(self, report: RunReport) -> bool:
        """Store the reported state and the messages in one transaction.

        Returns whether there are any.
        """
        state, endpoints = self._store.state(report.job), self._endpoints
        after = events.alert_state(report, state, state.notified_as) if endpoints else events.OK
        changed = events.events(state.notified_as, after)
        if not changed:
            return False
        message_id, now = secrets.token_hex(8), self._clock.now()
        context = events.Context(report, state, self._host, now)
        bodies = {
            endpoint.name: events.body(message_id, event, context)
            for endpoint in endpoints
            if (event := events.event_for(changed, endpoint.when)) is not None
        }
        new = NewNotification(message_id, bodies, now.timestamp())
        queued = self._store.queue_notifications(report.job, state.notified_as, after, new)
        return queued and bool(bodies)

    def close(self, timeout_seconds: float) -> None:
        """Send what can be sent within the timeout.

        Other messages stay in the store for the next process.
        """
        with self._changed:
            thread, self._closing, self._woken = self._thread, True, True
            self._changed.notify_all()
        if thread is not None:
            thread.join(timeout_seconds)

    def send_due(self) -> float:
        """Send every message that is due, and return the seconds until the next one is.

        An endpoint that fails gets one attempt. Raises StoreError.
        """
        while (one := self._claim()) is not None:
            self._send(one)
        next_at = self._store.notifications.next_at(self._now())
        if next_at is None:
            return POLL_INTERVAL_SECONDS
        return min(POLL_INTERVAL_SECONDS, max(0.0, next_at - self._now()))

    def _claim(self) -> PendingNotification | None:
        names = [endpoint.name for endpoint in self._endpoints]
        return self._store.notifications.claim(names, self._now())

    # --- the thread -------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            if self._thread is None and self._endpoints and self._started and not self._closing:
                self._thread = threading.Thread(
                    target=self._loop, name="syncd-messages", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._woken = False
            pause = POLL_INTERVAL_SECONDS
            try:
                pause = self.send_due()
            except SyncdError as error:
                log.warning("syncd can't send notifications: %s", error)
            with self._changed:
                if pause > 0 and not self._woken:
                    if self._closing:
                        return
                    self._changed.wait(pause)

    def _send(self, one: PendingNotification) -> None:
        endpoint = next((found for found in self._endpoints if found.name == one.endpoint), None)
        if endpoint is None:
            return  # removed from the configuration since; the next `claim` drops the message
        outcome = self._post(endpoint, one.body)
        if outcome.error is None:
            self._store.notifications.mark_sent(one, outcome.host, self._now())
            log.info("syncd notified %s of %s", outcome.host, one.job)
        else:
            self._record_failure(one, outcome, outcome.error)

    def _record_failure(self, one: PendingNotification, outcome: Outcome, error: str) -> None:
        """Store when to retry. The log names the first failure of a message and the last one."""
        now = self._now()
        pause = max(self._retry_seconds(one.failures), outcome.retry_after_seconds or 0.0)
        given_up = now + pause - one.created_at > GIVE_UP_SECONDS
        attempt = FailedAttempt(outcome.host, error, now, now + pause, given_up)
        self._store.notifications.mark_failed(one, attempt)
        if given_up or one.failures == 0:
            log.warning(
                "syncd can't notify %s (%s) of %s: %s; %s",
                outcome.host,
                one.endpoint,
                one.job,
                error,
                "it is given up" if given_up else "it is tried again",
            )

    def _post(self, endpoint: Endpoint, body: str) -> Outcome:
        try:
            secret = read_secret(endpoint.address, self._environ, "notify.webhook")
        except ConfigError as error:
            return Outcome("?", error.message)
        address = secret.reveal()
        redact_address(secret)
        problem = inspect_address(secret)
        if problem is not None:
            return Outcome(host_of(address), f"{endpoint.name}: {problem}")
        return post(address, body, f"syncd/{__version__}", self._sender_for(address))

    def _retry_seconds(self, failures: int) -> float:
        """Return the pause after so many failures: it grows, and jitter takes at most half of it
        off.
        """
        pause = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures, 20))
        return float(pause * (0.5 + self._jitter() / 2))

    def _now(self) -> float:
        return self._clock.now().timestamp()


def redact_address(secret: Secret) -> None:
    """Redact the address, and the part after its host, in all output."""
    add_secret(secret)
    _, _, rest = secret.reveal().partition(host_of(secret.reveal()))
    if len(rest) > 1:
        add_secret(Secret(rest))


__all__ = ["NotificationSender", "redact_address"]
