"""What the daemon has at hand of its jobs while it lives: for the service manager's status line, and for the readings of the web listener.

Promises: safe from many threads; a reader gets values of one moment and never waits for a run. Nothing here is truth (that is the
store's): it begins from the store at a start, is told of every run's report, and of what hands did beside it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import LockedError, StoppedError
from syncd.models import RunReport, RunStatus
from syncd.ports import JobState
from syncd.status import RunCounts

LOG = logging.getLogger("syncd.daemon")


class JobStatus(Struct, frozen=True):
    """One job. `error` is the message of the last run, None when it was good."""

    job: str
    drifted: int = 0
    paused: bool = False
    error: str | None = None


Ear = Callable[[RunReport, JobStatus], None]


class JobStatusBoard:
    """`reload_ok` and `reload_error` are of the last reload; `counts` of the runs since the start."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.reload_ok = True
        self.reload_error: str | None = None
        self.counts = RunCounts()
        self._guard = threading.Lock()
        self._cards: dict[str, JobStatus] = {}
        self._ears: list[Ear] = []

    def cards(self) -> dict[str, JobStatus]:
        with self._guard:
            return dict(self._cards)

    def listen(self, hear: Ear) -> None:
        """`hear(report, card)` is called after every run, on its worker's thread, with the job's card as it was before: it must return at once."""
        self._ears.append(hear)

    def see(self, job: str, state: JobState, now: datetime) -> None:
        """The job stands on the board as the store knows it."""
        with self._guard:
            self._cards[job] = JobStatus(
                job,
                state.drifted,
                state.paused(now),
                state.last_error if state.last_error_kind is not None else None,
            )

    def drop(self, job: str) -> None:
        with self._guard:
            self._cards.pop(job, None)

    def note(self, report: RunReport) -> None:
        """One run has ended. Whoever listens is told; what goes wrong there is logged and harms no run."""
        with self._guard:
            before = self._cards.get(report.job)
            if before is None:
                return
            self._cards[report.job] = _after(before, report)
        self.counts.add(report)
        for hear in self._ears:
            try:
                hear(report, before)
            except Exception:
                LOG.exception("a listener failed on the report of %s", report.job)


def _after(card: JobStatus, report: RunReport) -> JobStatus:
    if isinstance(report.error, (LockedError, StoppedError)):
        return card
    if report.status is RunStatus.SKIPPED:
        return replace(card, paused=True)
    drifted = report.drifted if report.error is None or report.files else card.drifted
    return replace(
        card,
        paused=False,
        drifted=drifted,
        error=None if report.error is None else report.error.message,
    )


__all__ = ["Ear", "JobStatus", "JobStatusBoard"]
