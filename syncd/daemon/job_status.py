"""Status of the jobs in memory, for systemd's status line and for listeners.

It starts from the store and is updated by each run's report and by changes that other commands
make. The store stays the truth. Readers get values of one moment and never wait for a run.
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
    """Status of one job. `error` is the message of the last run; None when it succeeded."""

    job: str
    drifted: int = 0
    paused: bool = False
    error: str | None = None


RunListener = Callable[[RunReport, JobStatus], None]


class JobStatusBoard:
    """Status of all jobs. Safe to use from many threads.

    `reload_ok` and `reload_error` describe the last reload; `counts` counts the runs since the
    start.
    """

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.reload_ok = True
        self.reload_error: str | None = None
        self.counts = RunCounts()
        self._lock = threading.Lock()
        self._statuses: dict[str, JobStatus] = {}
        self._listeners: list[RunListener] = []

    def statuses(self) -> dict[str, JobStatus]:
        """Return the status of each job."""
        with self._lock:
            return dict(self._statuses)

    def subscribe(self, listener: RunListener) -> None:
        """Call `listener(report, status)` after every run, with the status before it.

        It runs on the worker's thread and must return at once.
        """
        self._listeners.append(listener)

    def set(self, job: str, state: JobState, now: datetime) -> None:
        """Set the status of a job from its stored state."""
        with self._lock:
            self._statuses[job] = JobStatus(
                job,
                state.drift_count,
                state.paused(now),
                None if state.last_error is None else state.last_error.message,
            )

    def remove(self, job: str) -> None:
        """Remove a job that is not configured any more."""
        with self._lock:
            self._statuses.pop(job, None)

    def run_finished(self, report: RunReport) -> None:
        """Update the status after a run and call the listeners. A listener's failure is only
        logged.
        """
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
