"""Watchdog of the daemon: tell systemd that it is alive, but only while all its parts make
progress.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from syncd.daemon.context import DaemonContext
from syncd.daemon.job_status import JobStatusBoard
from syncd.daemon.sd_notify import SdNotify

LOG = logging.getLogger("syncd.daemon")
STALL_SECONDS = 60.0
MAX_NAMES = 3  # in the status line


class Watchdog:
    """Decides whether the daemon is stalled.

    Waits for nothing: neither store, nor disk, nor network.

    `services` yields the stall reason of each service beside the daemon; `workers` is how many are
    wanted.
    """

    def __init__(
        self,
        parts: DaemonContext,
        sd_notify: SdNotify,
        workers: Callable[[], int],
        services: Callable[[], Iterable[str | None]],
    ) -> None:
        self._parts, self._sd_notify = parts, sd_notify
        self._workers, self._services = workers, services
        self.last_heartbeat = parts.clock.monotonic()
        self._last_reason: str | None = None

    def ping(self) -> None:
        """Send the sign of life and the status line to systemd.

        A stalled daemon sends no sign of life.
        """
        reason = self.stall_reason()
        if reason is None:
            self._sd_notify.alive()
        elif reason != self._last_reason:
            LOG.error("%s; no sign of life is given until that ends", reason)
        self._last_reason = reason
        self._sd_notify.status(self.status_line())

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well.

        A run within its own limits is no stall, however long.
        """
        parts, now = self._parts, self._parts.clock.monotonic()
        idle = now - parts.scheduler.last_tick
        if idle > STALL_SECONDS:
            return f"the clock has not ticked for {idle:.0f} s"
        idle = now - self.last_heartbeat
        if idle > STALL_SECONDS:
            return f"the main loop has not been heard of for {idle:.0f} s"
        stuck = parts.runner.stuck_jobs()
        if stuck and len(stuck) >= self._workers():
            return f"every worker is stuck: {', '.join(stuck[:5])} should have ended long ago"
        waited = parts.queue.longest_wait_seconds()
        if waited > STALL_SECONDS and len(parts.runner.active_jobs()) < self._workers():
            return f"a run has been waiting for {waited:.0f} s though there are free workers"
        return next(filter(None, self._services()), None)

    def status_line(self) -> str:
        """Return one line on how the jobs are, for `systemctl status`."""
        return status_line(self._parts.job_status, self._parts.runner.active_jobs())


def status_line(jobs: JobStatusBoard, running: list[str]) -> str:
    """Return one line: how many jobs there are, which are failing, drifted, paused or running."""
    statuses = jobs.statuses()
    failing = sorted(name for name, one in statuses.items() if one.error is not None)
    drifted = sum(bool(one.drifted) for one in statuses.values())
    paused = sum(one.paused for one in statuses.values())
    parts = [
        f"{len(statuses)} jobs",
        f"{len(failing)} failing ({_names(failing)})" if failing else "",
        f"{drifted} drifted" if drifted else "",
        f"{paused} paused" if paused else "",
        f"at work on {_names(running)}" if running else "",
        "" if jobs.reload_ok else "the last reload was refused",
    ]
    return ", ".join(filter(None, parts))


def _names(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")


__all__ = ["Watchdog", "status_line"]
