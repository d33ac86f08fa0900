"""Send a message to the endpoints of `notify:` when a job's state has changed.

Messages are queued in the store together with the job's state, by whichever process ran the job. A
thread sends them, retries with growing pauses for a day, and then gives up. No run waits for a
message or fails because of one: failures are logged and shown by `syncd status`.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from syncd import __version__
from syncd.clock import Clock
from syncd.config.model import Config, Endpoint
from syncd.config.secrets import inspect_address, read_secret
from syncd.errors import ConfigError, SyncdError
from syncd.models import CommitSummary, Job, RunReport, RunStatus
from syncd.notice_template import TemplateError, render
from syncd.notifications import commit_status, events, reported
from syncd.notifications.http_post import Outcome, Send, host_of, post
from syncd.notifications.reported import Reported
from syncd.notifications.run_events import STALE_MARK, outdated_slots, run_events
from syncd.ports import JobState
from syncd.redaction import Secret, add_secret
from syncd.store.notification_queue import FailedAttempt, NewNotification, PendingNotification
from syncd.store.store import SqliteStore
from syncd.wiring import SendStatus

log = logging.getLogger(__name__)

EVENTS_OF_A_COMMIT = ("changed", "rolled_back", "rejected", "waiting")
FIRST_RETRY_SECONDS = 30.0
MAX_RETRY_SECONDS = 3600.0
GIVE_UP_SECONDS = 86_400.0
# Source: docs "Rate limits for the REST API": 80 a minute and 500 an hour that create content.
WRITE_INTERVAL_SECONDS, WRITE_BURST = 8.2, 60
POLL_INTERVAL_SECONDS = 60.0  # messages that another process queued are found within this time


class NotificationSender:
    """Queues messages at any time, and sends them between `start` and `close`.

    Safe to use from many threads.

    `sender_for` makes the HTTP sender for an address, `send_status` sets a commit status,
    `summarise` says who made a commit. Without endpoints there is no thread. `stale_reasons`, where
    it is set, says once a minute which jobs are not up to date. Eight parameters: all are
    collaborators, and the last one is for tests.
    """

    def __init__(
        self,
        config: Config,
        store: SqliteStore,
        clock: Clock,
        environ: Mapping[str, str],
        sender_for: Callable[[str], Send],
        send_status: SendStatus | None = None,
        summarise: Callable[[Job, str], CommitSummary | None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._clock, self._environ = store, clock, environ
        self._sender_for, self._send_status, self._jitter = sender_for, send_status, jitter
        self._config, self._summarise = config, summarise
        self.stale_reasons: Callable[[], Mapping[str, str]] | None = None
        self._endpoints: tuple[Endpoint, ...] = ()
        self._status_endpoints: frozenset[str] = frozenset()
        self._host = socket.gethostname()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = self._started = self._closing = False
        self.replace_config(config)

    def replace_config(self, config: Config) -> None:
        """Use the endpoints of this configuration from now on."""
        self._config, self._endpoints = config, config.endpoints()
        names = map(commit_status.endpoint_of, config.jobs.values())
        self._status_endpoints = frozenset(filter(None, names if self._send_status else ()))
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
        """Store what is reported and the messages in one transaction.

        Returns whether there are any messages.
        """
        state = self._store.state(report.job)
        before = reported.parse(state.notified_as)
        after, notices = self._notices(report, state, before)
        after, status = self._statuses(report, state, after)
        new = [*notices, *([status] if status.bodies else [])]
        if after == before and not new:
            return False
        at = self._clock.now().timestamp()
        ended = [NewNotification("", {}, at, slot) for slot in outdated_slots(before, after)]
        texts = state.notified_as, after.text()
        return self._store.queue_notifications(report.job, *texts, *ended, *new) and bool(new)

    def _notices(
        self, report: RunReport, state: JobState, before: Reported
    ) -> tuple[Reported, list[NewNotification]]:
        """Return what is reported after the run, and the messages for the endpoints of `notify`."""
        after = replace(before, alert=events.OK)
        if self._endpoints:
            alert = events.alert_state(report, state, before.alert)
            after = replace(before, alert=alert)
        of_run, after = run_events(report, after)
        changed = (*events.events(before.alert, after.alert), *of_run)
        return after, self._messages(
            changed, events.Context(report, state, self._host, self._clock.now())
        )

    def _messages(
        self, changed: Sequence[events.Event], context: events.Context
    ) -> list[NewNotification]:
        """Return the message for each endpoint, by the slot in which it waits."""
        message_id, by_slot = secrets.token_hex(8), dict[str, dict[str, str]]()
        for endpoint in self._endpoints:
            event = events.event_for(changed, endpoint.when)
            if event is not None:
                bodies = by_slot.setdefault(events.SLOTS.get(event, events.STATE_SLOT), {})
                bodies[endpoint.name] = events.body(message_id, event, context)
        created_at = context.at.timestamp()
        return [
            NewNotification(message_id, bodies, created_at, slot)
            for slot, bodies in by_slot.items()
        ]

    def queue_stale(self, reasons: Mapping[str, str]) -> None:
        """Queue a message for each job that is not up to date; `reasons` is job -> why.

        Once until the job has a run without an error. Raises StoreError.
        """
        for name, reason in reasons.items():
            job, state = self._config.jobs[name], self._store.state(name)
            before = reported.parse(state.notified_as)
            if STALE_MARK in before.marks:
                continue
            report = RunReport(
                name, RunStatus.FAILED, job.repo, job.ref, None, state.applied_commit
            )
            context = events.Context(report, state, self._host, self._clock.now(), reason)
            new = self._messages((events.Event.STALE,), context)
            after = before.with_mark(STALE_MARK, "1").text()
            self._store.queue_notifications(name, state.notified_as, after, *new)

    def _look_for_stale_jobs(self) -> None:
        asked = any(events.Event.STALE.value in one.when for one in self._endpoints)
        if asked and self.stale_reasons is not None:
            self.queue_stale(self.stale_reasons())

    def _statuses(
        self, report: RunReport, state: JobState, after: Reported
    ) -> tuple[Reported, NewNotification]:
        """Return what is reported after the run, and the commit status to set, if any."""
        job, now = self._config.jobs.get(report.job), self._clock.now().timestamp()
        none = NewNotification("", {}, now)
        endpoint = commit_status.endpoint_of(job) if job is not None else None
        if job is None or endpoint is None or self._send_status is None:
            return after, none
        status = commit_status.status_of(report, state)
        if status is None or after.marks.get(commit_status.MARK) == status.mark:
            return after, none
        bodies = {endpoint: commit_status.body(job, self._host, status)}
        new = NewNotification(secrets.token_hex(8), bodies, now, f"@{status.commit[:12]}")
        return after.with_mark(commit_status.MARK, status.mark), new

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
        names = [*(endpoint.name for endpoint in self._endpoints), *self._status_endpoints]
        return self._store.notifications.claim(names, self._now())

    # --- the thread -------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            used = bool(self._endpoints or self._status_endpoints)
            if self._thread is None and used and self._started and not self._closing:
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
                self._look_for_stale_jobs()
                pause = self.send_due()
            except SyncdError as error:
                log.warning("syncd can't send notifications: %s", error)
            with self._changed:
                if pause > 0 and not self._woken:
                    if self._closing:
                        return
                    self._changed.wait(pause)

    def _send(self, one: PendingNotification) -> None:
        now, spacing = self._now(), None
        if one.endpoint in self._status_endpoints:
            outcome = self._set_status(one)
            spacing = next_write_at(one.paused_until, now)
        else:
            endpoint = next((it for it in self._endpoints if it.name == one.endpoint), None)
            if endpoint is None:
                return  # removed from the configuration since; the next `claim` drops the message
            outcome = self._post(endpoint, self._completed(endpoint, one.body))
        if outcome.error is None:
            self._store.notifications.mark_sent(one, outcome.host, self._now(), spacing)
            log.info("syncd notified %s of %s", outcome.host, one.job_name)
        else:
            self._record_failure(one, outcome, outcome.error)

    def _completed(self, endpoint: Endpoint, body: str) -> str:
        """Return the body to post: with the author of its commit, and by the template if any."""
        message = json.loads(body)
        message = events.with_summary(message, self._summary(message))
        if endpoint.template is None:
            return json.dumps(message)
        try:
            return render(endpoint.template, message)
        except TemplateError as error:
            log.warning("the template of %s can't be rendered: %s", endpoint.name, error)
            return json.dumps(message)

    def _summary(self, message: Mapping[str, Any]) -> CommitSummary | None:
        job, commit = self._config.jobs.get(message["job"]), message["commit"]
        if self._summarise is None or job is None or commit is None:
            return None
        if message["event"] not in EVENTS_OF_A_COMMIT:
            return None
        return self._summarise(job, commit)

    def _set_status(self, one: PendingNotification) -> Outcome:
        if self._send_status is None:
            return Outcome("?", "there is nothing to set statuses with")
        return Outcome(
            *self._send_status(one.endpoint.removeprefix(commit_status.PREFIX), one.body)
        )

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
                one.job_name,
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


def next_write_at(paused_until: float | None, now: float) -> float:
    """Return until when an endpoint of statuses is paused after a write.

    At most 60 writes at once, and then one every 8.2 seconds: with one machine's jobs, that stays
    within the 80 a minute and 500 an hour of an installation. The pause is in the store, so that
    it counts for all processes. It is in the past while another write may follow.
    """
    burst = WRITE_BURST * WRITE_INTERVAL_SECONDS
    used_until = max(now, (paused_until if paused_until is not None else 0.0) + burst)
    return min(used_until, now + burst) + WRITE_INTERVAL_SECONDS - burst


def redact_address(secret: Secret) -> None:
    """Redact the address, and the part after its host, in all output."""
    add_secret(secret)
    _, _, rest = secret.reveal().partition(host_of(secret.reveal()))
    if len(rest) > 1:
        add_secret(Secret(rest))


__all__ = ["NotificationSender", "redact_address"]
