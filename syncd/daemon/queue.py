"""Who runs next: timer, push, signal, retry and hand collapse into at most one pending and one running run of each job.

Promises that a job never runs twice at once, that what is asked while it runs is run afterwards, and that a hand goes before a push and a
push before a timer, unless the timer has waited a minute longer. Remembers what holds failed jobs back; says nothing about when a job's
turn is.
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
    """One run that is wanted. `tick` is the moment it is wanted for, in seconds of wall time: requests of one share what GitHub says of a head."""

    job: str
    trigger: Trigger
    requested_at: float
    due_at: float
    tick: float

    @property
    def priority(self) -> int:
        return PRIORITY_OF_TRIGGER[self.trigger]

    @property
    def rank(self) -> tuple[int, float]:
        return (
            (0, self.requested_at)
            if self.priority == MANUAL
            else (
                1,
                self.requested_at - (PUSH_HEAD_START_SECONDS if self.priority == PUSH else 0.0),
            )
        )


class Queue:
    """Safe to use from many threads; times are the clock's monotonic seconds."""

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
        """One run of the job is pending, unless it is a timer's turn and the job is held: then False, and the turn passes by.

        `due_at`: not before then.
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
        """The next run, from now on counted as running; None when there is none to run now."""
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
        """As `take`, waiting for something to run; None when nothing came, or the queue is closed."""
        with self._changed:
            found = None if self._closed else self._pop()
            if found is None and not self._closed:
                self._changed.wait(min(timeout_seconds, self._seconds_until_due(timeout_seconds)))
                found = None if self._closed else self._pop()
            return found

    def _seconds_until_due(self, otherwise: float) -> float:
        return max(0.0, self._later[0][0] - self._clock.monotonic()) if self._later else otherwise

    def seconds_until_due(self) -> float | None:
        """Seconds until something that waits for its time may run; None when nothing does."""
        with self._changed:
            return self._seconds_until_due(0.0) if self._later else None

    def finish(self, job: str, backoff: Backoff | None = None) -> None:
        """The job does not run any more. `backoff` replaces what held it before; None: nothing does."""
        with self._changed:
            self._running.pop(job, None)
            if backoff is None:
                self._backoffs.pop(job, None)
            else:
                self._backoffs[job] = backoff
            self._requeue_pending(job, backoff)
            self._changed.notify_all()

    def _requeue_pending(self, job: str, backoff: Backoff | None) -> None:
        """What was asked while the job ran is in line again, as far as the backoff lets it."""
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
        with self._changed:
            return self._backoffs.get(job)

    def active_backoffs(self) -> dict[str, float]:
        """Job -> monotonic seconds until which it is held, for those that are."""
        with self._changed:
            now = self._clock.monotonic()
            return {
                job: backoff.until for job, backoff in self._backoffs.items() if backoff.until > now
            }

    def clear_backoff(self, jobs: list[str]) -> None:
        """Nothing holds these jobs any more: their configuration, or who they are, has changed."""
        with self._changed:
            for job in jobs:
                self._backoffs.pop(job, None)

    def remove(self, job: str) -> None:
        """The job is configured no more: nothing of it is pending. A running one ends by itself."""
        with self._changed:
            self._pending.pop(job, None)
            self._backoffs.pop(job, None)

    def close(self) -> None:
        """Nothing is handed out any more, and whoever waits returns."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify_all()

    def running(self) -> frozenset[str]:
        with self._changed:
            return frozenset(self._running)

    def pending(self) -> frozenset[str]:
        with self._changed:
            return frozenset(self._pending)

    def longest_wait_seconds(self) -> float:
        """How long the oldest run that could begin now has been waiting for a worker."""
        with self._changed:
            self._promote_due()
            now = self._clock.monotonic()
            asked = [
                max(entry[1].requested_at, entry[1].due_at)
                for job, entry in self._pending.items()
                if job not in self._running and entry[1].due_at <= now
            ]
            return now - min(asked) if asked else 0.0
