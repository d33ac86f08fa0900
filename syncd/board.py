"""What the daemon knows of its jobs since it started, for whoever asks it: metrics, health, the status page, notifications.

Promises: safe to read and write from many threads; a reader gets values of one moment and never waits for a run. Nothing here is truth
(that is the store's): it begins from the store at a start and is told of every run's report.

Shape, for readers: `cards()` is job name -> Card, the frozen facts of one job; `config`, `started_at`, `ready`, `reload_ok`, `reload_at`
and `reload_error` are of the daemon as a whole; `stale(now)` is why it is not ready to be trusted, empty when it is; `listen(hear)` calls
`hear(report, before, after)` with the job's Card before and after each run, on the worker's thread, so it must return at once. Requests,
limits and clock skew are in the Workshop: `tally.by_code()`, `tally.skew_seconds`, `budgets[identity].view()`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from syncd.config.model import Config
from syncd.engine.ports import JobState
from syncd.errors import LockedError, StoppedError
from syncd.models import RunReport, RunStatus

LOG = logging.getLogger("syncd.daemon")
INTERVALS = 3  # contract section 4: staler than so many is not ready


@dataclass(frozen=True)
class Card:
    """One job. Times are aware UTC; `runs` counts by outcome since the start, `seconds` is what the last run took and `seconds_sum` all of them.

    `interval_seconds` is the longest time between two turns; `error` is (kind, message) of the last run, None when it was good.
    """

    job: str
    interval_seconds: float
    added_at: datetime
    runs: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    seconds_sum: float = 0.0
    last_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_change_at: datetime | None = None
    commit: str | None = None
    files: int = 0
    drifted: int = 0
    hook_owed: bool = False
    paused: bool = False
    error: tuple[str, str] | None = None
    failures: int = 0

    def stale_since(self) -> datetime:
        """When this job should have been in step again at the latest."""
        return max(self.last_success_at or self.added_at, self.added_at) + timedelta(seconds=INTERVALS * self.interval_seconds)


Ear = Callable[[RunReport, Card, Card], None]


class Board:
    def __init__(self, config: Config, started_at: datetime) -> None:
        self.config = config
        self.started_at = started_at
        self.ready = False
        self.reload_ok = True
        self.reload_at = started_at
        self.reload_error: str | None = None
        self._guard = threading.Lock()
        self._cards: dict[str, Card] = {}
        self._ears: list[Ear] = []

    def cards(self) -> dict[str, Card]:
        with self._guard:
            return dict(self._cards)

    def listen(self, hear: Ear) -> None:
        self._ears.append(hear)

    def put(self, job: str, interval_seconds: float, state: JobState, now: datetime) -> None:
        """The job is on the board, as the store knows it; one that was there keeps what it has counted."""
        with self._guard:
            old = self._cards.get(job) or Card(job, interval_seconds, now)
            fresh = _from_store(replace(old, interval_seconds=interval_seconds), state, now)
            self._cards[job] = fresh if old.last_run_at is None else replace(old, interval_seconds=interval_seconds, paused=fresh.paused)

    def drop(self, job: str) -> None:
        with self._guard:
            self._cards.pop(job, None)

    def see(self, job: str, state: JobState, now: datetime) -> None:
        """The store has changed under the job: by a hand, a rollback, a one-shot."""
        with self._guard:
            if job in self._cards:
                self._cards[job] = _from_store(self._cards[job], state, now)

    def note(self, report: RunReport, now: datetime) -> None:
        """One run has ended. Whoever listens is told; what goes wrong there is logged and harms no run."""
        with self._guard:
            before = self._cards.get(report.job)
            if before is None:
                return
            after = self._cards[report.job] = _after(before, report, now)
        for hear in self._ears:
            try:
                hear(report, before, after)
            except Exception:
                LOG.exception("a listener failed on the report of %s", report.job)

    def stale(self, now: datetime) -> dict[str, datetime]:
        """Job -> its last success (or since when it is known), for jobs without one for more than three of their intervals; paused ones are left alone."""
        with self._guard:
            cards = list(self._cards.values())
        return {card.job: card.last_success_at or card.added_at for card in cards if not card.paused and now > card.stale_since()}


def _from_store(card: Card, state: JobState, now: datetime) -> Card:
    error = (state.last_error_kind, state.last_error or "") if state.last_error_kind is not None else None
    return replace(
        card, last_run_at=state.last_run_at, last_success_at=state.last_success_at, last_change_at=state.last_change_at, commit=state.applied_commit, files=state.files,
        drifted=state.drifted, hook_owed=state.hook_owed, paused=state.paused(now), error=error, failures=state.failures,
    )  # fmt: skip


def _after(card: Card, report: RunReport, now: datetime) -> Card:
    status = report.status
    runs = {**card.runs, status.value: card.runs.get(status.value, 0) + 1}
    card = replace(card, runs=runs, last_run_at=now, seconds=report.seconds, seconds_sum=card.seconds_sum + report.seconds, paused=status is RunStatus.SKIPPED)
    if status is RunStatus.SKIPPED or isinstance(report.error, (LockedError, StoppedError)):
        return card
    if report.error is not None:
        known = {"files": report.files, "drifted": report.drifted, "hook_owed": report.hook_owed} if report.files else {"hook_owed": report.hook_owed or card.hook_owed}
        return replace(card, error=(report.error.kind, report.error.message), failures=card.failures + 1, **known)
    changed = now if status is RunStatus.CHANGED else card.last_change_at
    success = card.last_success_at if report.hook_owed else now
    return replace(
        card, error=None, failures=0, commit=report.commit, files=report.files, drifted=report.drifted, hook_owed=report.hook_owed, last_success_at=success, last_change_at=changed
    )


__all__ = ["Board", "Card", "Ear"]
