"""Whether a daemon works for a state folder, and which jobs are overdue.

Pure: no I/O. `syncd status`, `syncd doctor` and the status page share this decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

MAX_SILENCE = timedelta(seconds=60)  # a daemon that works stores a heartbeat more often than this
OVERDUE_GRACE = timedelta(minutes=2)  # a busy daemon starts a due job that late


class DaemonStatus(Struct, frozen=True):
    """How the daemon of a state folder is doing.

    `alive`: a daemon runs and its last heartbeat is recent. `is_running` without `alive` is a
    daemon that hangs. `overdue` are the jobs that should have run by now, in the order of the
    configuration.
    """

    alive: bool
    is_running: bool
    last_heartbeat: datetime | None = None
    overdue: tuple[str, ...] = ()


def daemon_status(
    is_running: bool,
    last_heartbeat: datetime | None,
    due_at: Mapping[str, datetime | None],
    now: datetime,
) -> DaemonStatus | None:
    """Return how the daemon is doing; None where there is none and never was one.

    `is_running`: a process holds the daemon's lock. `due_at` is when each job should have run after
    its last run; None for a job that is paused or has no schedule. A daemon that runs and has
    stored no heartbeat yet has just started. A heartbeat in the future (the clock was set back)
    counts as recent.
    """
    if not is_running and last_heartbeat is None:
        return None
    is_recent = last_heartbeat is None or now - last_heartbeat <= MAX_SILENCE
    overdue = tuple(
        name for name, at in due_at.items() if at is not None and now - at > OVERDUE_GRACE
    )
    return DaemonStatus(is_running and is_recent, is_running, last_heartbeat, overdue)


__all__ = ["MAX_SILENCE", "OVERDUE_GRACE", "DaemonStatus", "daemon_status"]
