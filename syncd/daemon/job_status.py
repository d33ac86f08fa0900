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


RunListener = Callable[[RunReport, JobStatus], None]


class JobStatusBoard:
    """`reload_ok` and `reload_error` are of the last reload; `counts` of the runs since the start."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.reload_ok = True
        self.reload_error: str | None = None
        self.counts = RunCounts()
        self._lock = threading.Lock()
        self._statuses: dict[str, JobStatus] = {}
        self._listeners: list[RunListener] = []

    def statuses(self) -> dict[str, JobStatus]:
        with self._lock:
            return dict(self._statuses)

    def subscribe(self, listener: RunListener) -> None:
        """`hear(report, status)` is called after every run, on its worker's thread, with the job's status as it was before: it must return at once."""
        self._listeners.append(listener)

    def set(self, job: str, state: JobState, now: datetime) -> None:
        """The job stands on the board as the store knows it."""
        with self._lock:
            self._statuses[job] = JobStatus(
                job,
                state.drift_count,
                state.paused(now),
                state.last_error if state.last_error_kind is not None else None,
            )

    def remove(self, job: str) -> None:
        with self._lock:
            self._statuses.pop(job, None)

    def run_finished(self, report: RunReport) -> None:
        """One run has ended. Whoever listens is told; what goes wrong there is logged and harms no run."""
        with self._lock:
            before = self._statuses.get(report.job)
            if before is None:
                return
            self._statuses[report.job] = _after(before, report)
        self.counts.add(report)
        for listener in self._listeners:
            try:
                listener(report, before)
            except Exception:
                LOG.exception("a listener failed on the report of %s", report.job)


def _after(status: JobStatus, report: RunReport) -> JobStatus:
    if isinstance(report.error, (LockedError, StoppedError)):
        return status
    if report.status is RunStatus.SKIPPED:
        return replace(status, paused=True)
    drifted = report.drift_count if report.error is None or report.files else status.drifted
    return replace(
        status,
        paused=False,
        drifted=drifted,
        error=None if report.error is None else report.error.message,
    )


__all__ = ["JobStatus", "JobStatusBoard", "RunListener"]
