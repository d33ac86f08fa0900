"""Whether a daemon serves the state folder, and which jobs it should have run by now.

Pure: no I/O. `syncd.status.read` reads the heartbeat and the lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.store.facts import Heartbeat

MAX_HEARTBEAT_AGE = timedelta(minutes=2)  # the daemon saves one every 30 s
MIN_GRACE, MAX_GRACE = timedelta(minutes=2), timedelta(hours=1)


class DaemonStatus(Struct, frozen=True):
    """The daemon of a state folder, running or not.

    `stopped`: it was stopped in order, and not killed. `overdue` names the jobs that have not run
    though they were due. `service` is the systemd service that runs it, or would.
    """

    alive: bool
    started_at: datetime | None = None
    last_heartbeat: datetime | None = None
    stopped: bool = False
    overdue: tuple[str, ...] = ()
    service: str = "syncd"

    @property
    def is_well(self) -> bool:
        """Return whether nothing has to be done: it runs or was stopped, and no job is overdue."""
        return not self.overdue and (self.alive or self.stopped)


class DueRun(Struct, frozen=True):
    """When a job had to run after its last run; `interval_seconds` is None for a single run."""

    job: str
    due_at: datetime
    interval_seconds: float | None


def daemon_status(
    heartbeat: Heartbeat | None, lock_held: bool, now: datetime, due: Iterable[DueRun]
) -> DaemonStatus | None:
    """Return the status of the daemon; None where none has ever run.

    A daemon that holds its lock without a recent heartbeat hangs: it is not alive. After a start
    the first heartbeat may be missing. A heartbeat in the future follows a clock that was set back.
    """
    if heartbeat is None:
        return DaemonStatus(alive=True) if lock_held else None
    is_recent = now - heartbeat.beat_at <= MAX_HEARTBEAT_AGE
    is_new = heartbeat.pid is None and lock_held
    return DaemonStatus(
        lock_held and (is_recent or is_new),
        heartbeat.started_at,
        heartbeat.beat_at,
        heartbeat.pid is None and not lock_held,
        overdue_jobs(due, now, heartbeat.started_at),
    )


def overdue_jobs(due: Iterable[DueRun], now: datetime, started_at: datetime) -> tuple[str, ...]:
    """Return the jobs whose run should have begun before now, in the order given.

    A run may be late by its interval (at least two minutes, at most an hour): all workers may be
    busy. After a start of the daemon each job has that time too.
    """
    return tuple(
        one.job for one in due if now - max(one.due_at, started_at) > _grace(one.interval_seconds)
    )


def _grace(interval_seconds: float | None) -> timedelta:
    if interval_seconds is None or interval_seconds >= MAX_GRACE.total_seconds():
        return MAX_GRACE
    return max(MIN_GRACE, timedelta(seconds=interval_seconds))


__all__ = ["DaemonStatus", "DueRun", "daemon_status", "overdue_jobs"]
