"""What people do with jobs on the status page: sync now, pause and resume.

Each action is recorded before or with its effect, so that none has an effect without a record.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from syncd.cache_file import remove_cache
from syncd.daemon.context import DaemonContext
from syncd.fastpath.check import NAME as SNAPSHOT
from syncd.models import Trigger
from syncd.ports import Pause
from syncd.store.actions import PAUSE, RESUME, SYNC, OperatorAction, Person

LOG = logging.getLogger("syncd.daemon")


class JobControl:
    """Acts on configured jobs for a person. Safe to use from many threads.

    Every method but `has` raises StoreError.
    """

    def __init__(self, parts: DaemonContext) -> None:
        self._parts = parts

    def has(self, job: str) -> bool:
        """Return whether the job is configured."""
        return job in self._parts.app.config.jobs

    def sync_now(self, job: str, by: Person) -> str | None:
        """Queue a run as `syncd sync JOB` would do; return why none is queued, None if one is."""
        now = self._parts.clock.now()
        state = self._parts.app.store.state(job)
        if state.paused(now):
            return f"{job} is {state.describe_pause()}; resume it first"
        self._record(OperatorAction(job, SYNC, now, by))
        if not self._parts.queue.enqueue(job, Trigger.OPERATOR, now.timestamp()):
            return "syncd is stopping; the run is due after its next start"
        return None

    def pause(self, job: str, by: Person, reason: str, seconds: float | None) -> None:
        """Pause the job, for so many seconds or until it is resumed.

        Where the person has a name, `syncd status` shows it beside the reason.
        """
        now = self._parts.clock.now()
        until = None if seconds is None else now + timedelta(seconds=seconds)
        action = OperatorAction(job, PAUSE, now, by, reason, until)
        self._set_pause(action, Pause(f"{reason} ({by.user})" if by.user else reason, until))
        remove_cache(f"{self._parts.app.config.state}/{SNAPSHOT}")  # a one-shot would ask GitHub

    def resume(self, job: str, by: Person) -> str | None:
        """Let a paused or held job go on with its next run; return why not, None if it does."""
        now = self._parts.clock.now()
        if not self._parts.app.store.state(job).paused(now):
            return f"{job} is not paused"
        self._set_pause(OperatorAction(job, RESUME, now, by), None)
        return None

    def _set_pause(self, action: OperatorAction, pause: Pause | None) -> None:
        state = self._parts.app.store.change_state(
            action.job, lambda known: known.with_pause(pause, action.at), action
        )
        self._parts.job_status.set(action.job, state, action.at)
        LOG.info("%s: %s", action.job, action.describe())

    def _record(self, action: OperatorAction) -> None:
        self._parts.app.store.add_action(action)
        LOG.info("%s: %s", action.job, action.describe())


__all__ = ["JobControl"]
