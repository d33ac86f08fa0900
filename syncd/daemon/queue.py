"""Queue of runs: each job has at most one pending and one running run, whatever asked for them.

A job never runs twice at once. A run that is requested while the job runs starts afterwards. Manual
runs go before pushes, and pushes before timers, unless the timer has waited a minute longer. The
queue remembers the back-off of failed jobs. It does not know schedules.
"""

from __future__ import annotations

import heapq
import threading

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Clock
from syncd.daemon.backoff import Backoff
from syncd.models import Trigger

MANUAL, PUSH, TIMED = 0, 1, 2
PRIORITY_OF_TRIGGER = {
    Trigger.OPERATOR: MANUAL,
    Trigger.ROLLBACK: MANUAL,
    Trigger.PUSH: PUSH,
    Trigger.START: TIMED,
    Trigger.SCHEDULE: TIMED,
    Trigger.RETRY: TIMED,
}
PUSH_HEAD_START_SECONDS = 60.0  # so much later a push may come than a timer and still go first


class Request(Struct, frozen=True):
    """A requested run.

    `tick` is the moment that the run is due, in seconds of wall time: runs of one tick share
    GitHub's answers about a ref.
    """

    job: str
    trigger: Trigger
    requested_at: float
    due_at: float
    tick: float

    @property
    def priority(self) -> int:
        """Return the priority of the trigger; a lower number goes first."""
        return PRIORITY_OF_TRIGGER[self.trigger]

    @property
    def rank(self) -> tuple[int, float]:
        """Return the sort key of the request among those that may run now."""
        return (
            (0, self.requested_at)
            if self.priority == MANUAL
            else (
                1,
                self.requested_at - (PUSH_HEAD_START_SECONDS if self.priority == PUSH else 0.0),
            )
        )


class Queue:
    """Runs to do. Safe to use from many threads; times are monotonic seconds of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._pending: dict[str, tuple[int, Request]] = {}
        self._running: dict[str, Request] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._ready: list[tuple[tuple[int, float], int, str]] = []
        self._later: list[tuple[float, int, str]] = []
        self._number = 0
        self._closed = False

    def enqueue(
        self, job: str, trigger: Trigger, tick: float | None = None, due_at: float | None = None
    ) -> bool:
        """Request a run of the job, not before `due_at`. Returns whether it is pending.

        A timer-triggered run is dropped while the job is backed off; a push waits for a hard
        back-off.
        """
        with self._changed:
            if self._closed:
                return False
            now = self._clock.monotonic()
            new = Request(
                job,
                trigger,
                now,
                max(now, due_at or now),
                self._clock.now().timestamp() if tick is None else tick,
            )
            backoff = self._backoffs.get(job)
            if backoff is not None and backoff.until > now and new.due_at < backoff.until:
                if new.priority == TIMED:
                    return False
                if new.priority == PUSH and backoff.hard:
                    new = replace(new, due_at=backoff.until)
            self._insert(new)
            return True

    def _insert(self, new: Request) -> None:
        number, old = self._pending.get(new.job, (0, None))
        if old is not None:
            preferred, other = (new, old) if new.rank < old.rank else (old, new)
            new = replace(
                preferred,
                due_at=min(preferred.due_at, other.due_at),
                tick=max(preferred.tick, other.tick),
            )
            if (new.rank, new.due_at) == (old.rank, old.due_at):
                self._pending[new.job] = (number, new)  # its place in line stays
                return
        self._number += 1
        self._pending[new.job] = (self._number, new)
        if new.due_at > self._clock.monotonic():
            heapq.heappush(self._later, (new.due_at, self._number, new.job))
        else:
            heapq.heappush(self._ready, (new.rank, self._number, new.job))
        self._changed.notify()

    def pop(self) -> Request | None:
        """Return the next run and count it as running; None when no run may start now."""
        with self._changed:
            return self._pop()

    def _pop(self) -> Request | None:
        self._promote_due()
        while self._ready:
            _, number, job = heapq.heappop(self._ready)
            entry = self._pending.get(job)
            if entry is None or entry[0] != number or job in self._running:
                continue  # outdated; or put in line again when the running one is done
            del self._pending[job]
            self._running[job] = entry[1]
            return entry[1]
        return None

    def _promote_due(self) -> None:
        now = self._clock.monotonic()
        while self._later and self._later[0][0] <= now:
            _, number, job = heapq.heappop(self._later)
            entry = self._pending.get(job)
            if entry is not None and entry[0] == number:
                heapq.heappush(self._ready, (entry[1].rank, number, job))

    def wait(self, timeout_seconds: float) -> Request | None:
        """Return the next run as `pop` does, waiting for one; None after the timeout or when
        closed.
        """
        with self._changed:
            found = None if self._closed else self._pop()
            if found is None and not self._closed:
                self._changed.wait(min(timeout_seconds, self._seconds_until_due(timeout_seconds)))
                found = None if self._closed else self._pop()
            return found

    def _seconds_until_due(self, otherwise: float) -> float:
        return max(0.0, self._later[0][0] - self._clock.monotonic()) if self._later else otherwise

    def seconds_until_due(self) -> float | None:
        """Return the seconds until a delayed run may start; None when no run is delayed."""
        with self._changed:
            return self._seconds_until_due(0.0) if self._later else None

    def finish(self, job: str, backoff: Backoff | None = None) -> None:
        """Record that the job's run has ended. `backoff` replaces the one before; None clears
        it.
        """
        with self._changed:
            self._running.pop(job, None)
            if backoff is None:
                self._backoffs.pop(job, None)
            else:
                self._backoffs[job] = backoff
            self._requeue_pending(job, backoff)
            self._changed.notify_all()

    def _requeue_pending(self, job: str, backoff: Backoff | None) -> None:
        """Queue again what was requested while the job ran, as far as the back-off allows it."""
        entry = self._pending.pop(job, None)
        if self._closed:
            return
        if entry is not None:
            waiting = entry[1]
            if backoff is not None and (
                waiting.priority == TIMED or (waiting.priority == PUSH and backoff.hard)
            ):
                waiting = replace(waiting, due_at=backoff.until)
            if backoff is None or waiting.priority != TIMED:
                self._insert(waiting)
        if backoff is not None and backoff.retry:
            now = self._clock.monotonic()
            self._insert(
                Request(
                    job,
                    Trigger.RETRY,
                    now,
                    backoff.until,
                    self._clock.now().timestamp() + backoff.until - now,
                )
            )

    def backoff_of(self, job: str) -> Backoff | None:
        """Return the job's back-off; None when it has none."""
        with self._changed:
            return self._backoffs.get(job)

    def active_backoffs(self) -> dict[str, float]:
        """Return the monotonic time at which each back-off ends, without those that are over."""
        with self._changed:
            now = self._clock.monotonic()
            return {
                job: backoff.until for job, backoff in self._backoffs.items() if backoff.until > now
            }

    def clear_backoff(self, jobs: list[str]) -> None:
        """Clear the back-off of jobs whose configuration or identity has changed."""
        with self._changed:
            for job in jobs:
                self._backoffs.pop(job, None)

    def remove(self, job: str) -> None:
        """Drop what is pending for a job that is not configured any more. A running run ends by
        itself.
        """
        with self._changed:
            self._pending.pop(job, None)
            self._backoffs.pop(job, None)

    def close(self) -> None:
        """Drop all pending runs and accept no more."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify_all()

    def running(self) -> frozenset[str]:
        """Return the jobs that are running."""
        with self._changed:
            return frozenset(self._running)

    def pending(self) -> frozenset[str]:
        """Return the jobs with a pending run."""
        with self._changed:
            return frozenset(self._pending)

    def pending_count(self) -> int:
        """Return the number of jobs with a pending run."""
        with self._changed:
            return len(self._pending)

    def longest_wait_seconds(self) -> float:
        """Return how long the oldest run that may start now has waited for a worker."""
        with self._changed:
            self._promote_due()
            now = self._clock.monotonic()
            asked = [
                max(entry[1].requested_at, entry[1].due_at)
                for job, entry in self._pending.items()
                if job not in self._running and entry[1].due_at <= now
            ]
            return now - min(asked) if asked else 0.0
