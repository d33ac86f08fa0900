"""Regular housekeeping of the daemon: exchange facts with other processes through the store, and
free what is unused.
"""

from __future__ import annotations

import logging
import os
import socket
from datetime import timedelta

from syncd.daemon.context import DaemonContext
from syncd.daemon.malloc import trim_heap
from syncd.errors import SyncdError
from syncd.models import Trigger
from syncd.status import WebhookStats, save_webhook_stats
from syncd.store.facts import Heartbeat

LOG = logging.getLogger("syncd.daemon")
HEARTBEAT_INTERVAL_SECONDS = 30.0
SAVE_LIMITS_INTERVAL_SECONDS = 60.0
CLEAN_UP_INTERVAL_SECONDS = 3600.0
TICK_TTL_SECONDS = 3600.0


class Housekeeper:
    """Runs every few seconds on a thread of its own."""

    def __init__(self, parts: DaemonContext) -> None:
        self._parts = parts
        self._store_counter = parts.app.store.counter()
        self._limits_saved_at = self._cleaned_up_at = parts.clock.monotonic()
        self._beat_at: float | None = None
        self._saved_backoffs: dict[str, float] | None = None
        self._saved_webhook_stats: WebhookStats | None = parts.push_trigger.stats()

    def run(self, is_stalled: bool) -> None:
        """Do what is due. A failure of the store is logged, and tried again the next time.

        A stalled daemon saves no heartbeat.
        """
        parts, now = self._parts, self._parts.clock.monotonic()
        parts.run_log.log_still_failing()
        parts.runner.forget_old_ticks(parts.clock.now().timestamp() - TICK_TTL_SECONDS)
        try:
            if not is_stalled and self._is_beat_due(now):
                self._beat_at = now
                self.save_heartbeat(os.getpid())
            parts.runner.save_checked()
            self._apply_store_changes()
            self._save_backoffs()
            self.save_webhook_stats()
            parts.app.save_moved_repositories()
            if now - self._limits_saved_at >= SAVE_LIMITS_INTERVAL_SECONDS:
                self._limits_saved_at = now
                parts.app.save_rate_limits()
            if now - self._cleaned_up_at >= CLEAN_UP_INTERVAL_SECONDS:
                self._cleaned_up_at = now
                parts.app.clean_up()
                trim_heap()
        except SyncdError as error:
            LOG.warning("syncd can't read or write the store: %s", error.message)

    def _apply_store_changes(self) -> None:
        """End the waits of jobs that another command has resumed or synced."""
        store, queue, jobs = self._parts.app.store, self._parts.queue, self._parts.job_status
        counter = store.counter()
        if counter == self._store_counter:
            return
        self._store_counter, now = counter, self._parts.clock.now()
        for name, status in jobs.statuses().items():
            backed_off = queue.backoff_of(name) is not None
            if not status.paused and not backed_off:
                continue
            state = store.state(name)
            if status.paused and not state.paused(now):
                jobs.set(name, state, now)
                queue.enqueue(name, Trigger.START)
            elif backed_off and not state.failures and state.last_error is None:
                jobs.set(name, state, now)
                queue.clear_backoff([name])

    def _save_backoffs(self) -> None:
        """Save the back-offs, so that other commands can show when a failed job runs next."""
        backoffs = self._parts.queue.active_backoffs()
        if backoffs != self._saved_backoffs:
            self._saved_backoffs = backoffs
            now, monotonic = self._parts.clock.now(), self._parts.clock.monotonic()
            self._parts.app.store.facts.save_backoffs(
                {job: now + timedelta(seconds=until - monotonic) for job, until in backoffs.items()}
            )

    def _is_beat_due(self, now: float) -> bool:
        return self._beat_at is None or now - self._beat_at >= HEARTBEAT_INTERVAL_SECONDS

    def save_heartbeat(self, pid: int | None) -> None:
        """Save that the daemon is alive; without a pid, that it was stopped in order.

        Raises StoreError.
        """
        parts = self._parts
        beat = Heartbeat(socket.gethostname(), pid, parts.job_status.started_at, parts.clock.now())
        parts.app.store.facts.save_heartbeat(beat)

    def save_webhook_stats(self) -> None:
        """Save the last webhook delivery if there is a new one. Raises StoreError."""
        stats = self._parts.push_trigger.stats()
        if stats is not self._saved_webhook_stats:
            self._saved_webhook_stats = stats
            save_webhook_stats(self._parts.app.store, stats)


__all__ = ["Housekeeper"]
