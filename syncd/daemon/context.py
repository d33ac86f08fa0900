"""The collaborators that the daemon's threads share, as one value."""

from __future__ import annotations

from msgspec import Struct

from syncd.clock import Clock
from syncd.daemon.job_status import JobStatusBoard
from syncd.daemon.push_trigger import PushTrigger
from syncd.daemon.queue import Queue
from syncd.daemon.run_log import RunLog
from syncd.daemon.scheduler import Scheduler
from syncd.daemon.worker import WorkerRunner
from syncd.wiring import AppContext


class DaemonContext(Struct, frozen=True):
    """Collaborators of a daemon that is prepared. Each is safe to use from many threads."""

    app: AppContext
    clock: Clock
    queue: Queue
    run_log: RunLog
    job_status: JobStatusBoard
    runner: WorkerRunner
    push_trigger: PushTrigger
    scheduler: Scheduler


__all__ = ["DaemonContext"]
