"""When each job of the daemon is due: APScheduler keeps the jobs' next times, and a job that is due
asks for a run.

No run is lost to a busy moment (no misfire limit, several missed times are one), and a step of the
wall clock, either way, delays no run by more than its interval or a minute. Jobs live in memory
alone: the configuration is the truth. There is no thread here: `tick` does what is due, and the
caller waits for as long as it says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job as ScheduledJob
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger

from syncd.clock import Clock
from syncd.schedule import ByCron, Schedule

MAX_SLEEP_SECONDS = 5.0
CLOCK_STEP_SECONDS = 2.0  # a wall clock that moved so much against monotonic time was set
# cron(8): what a smaller step skipped is run, what it repeats is not; a larger one is a correction
MAX_CATCH_UP = timedelta(hours=3)

LOG = logging.getLogger("syncd.daemon")
logging.getLogger("apscheduler").setLevel(logging.WARNING)


class _Trigger:
    """APScheduler trigger of one job. It is asked twice per firing, with the same `now`."""

    def __init__(
        self, schedule: Schedule, first: datetime, now: datetime, jitter: Callable[[], float]
    ) -> None:
        self.schedule, self.due, self._jitter = schedule, first, jitter
        self._next: datetime | None = first  # the scheduled time that comes
        self._fires: datetime | None = first
        self._asked_at: datetime | None = None
        self._catch_up = (
            first if first != schedule.next_after(now) else None
        )  # a run that makes up for what was missed before the start

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the next time to fire, jitter included."""
        if previous is None or now == self._asked_at:
            return self._fires
        self._asked_at, self.due, self._catch_up = now, self._next or now, None
        return self.after(now)

    def forget(self) -> None:
        """Forget the last question: after a clock step the same time may come again."""
        self._asked_at = None

    def after_step(self, now: datetime, step: float) -> datetime | None:
        """Return the next time after a clock step. A catch-up run keeps its distance in seconds."""
        found = self.after(now)
        if self._catch_up is not None:
            self._catch_up += timedelta(seconds=step)
            if found is None or self._catch_up < found:
                self._next = self._fires = self._catch_up
        return self._fires

    def after(self, moment: datetime) -> datetime | None:
        """Move to the first scheduled time after `moment`."""
        self._next = self.schedule.next_after(moment)
        return self.at(self._next)

    def at(self, scheduled_at: datetime | None) -> datetime | None:
        """Move to this scheduled time, and return it with jitter."""
        self._next = scheduled_at
        self._fires = (
            None
            if scheduled_at is None
            else scheduled_at + timedelta(seconds=self._jitter() * self.schedule.jitter_seconds)
        )
        return self._fires


class _Once:
    """APScheduler trigger that fires once, at a moment of the wall clock."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the moment, and None once it was there."""
        return self._moment if previous is None else None


BaseTrigger.register(_Trigger)
BaseTrigger.register(_Once)


class _Scheduler(BaseScheduler):  # type: ignore[misc]  # APScheduler 3 has no types
    """A scheduler that its owner drives.

    Source: APScheduler 3, "Extending APScheduler", "Custom schedulers".
    """

    def wakeup(self) -> None:
        """Do nothing, as nothing waits here: the owner calls `run_due` again soon enough."""

    def shutdown(self, wait: bool = True) -> None:
        """Stop the executor and the job store."""
        super().shutdown(wait)

    def run_due(self) -> float | None:
        """Submit every job that is due. Seconds until the next one; None when there is none."""
        wait: float | None = self._process_jobs()
        return wait


class _InPlace(BaseExecutor):  # type: ignore[misc]
    """Calls a job's function at once, in the thread of `run_due`.

    Source: APScheduler 3, "Extending APScheduler", "Custom executors".
    """

    def _do_submit_job(self, job: ScheduledJob, _run_times: list[datetime]) -> None:
        try:
            job.func(*job.args)
        except Exception as error:  # noqa: BLE001  (it is logged, and other jobs go on)
            self._run_job_error(job.id, error, error.__traceback__)
        else:
            self._run_job_success(job.id, [])


def _wake_id(job: str) -> str:
    return f"wake {job}"  # no job's name has a space


class Scheduler:
    """Calls `on_due(job, tick)` for each job that is due.

    `tick` is the job's time in seconds of wall time: it is equal for all jobs that are due
    together.
    """

    def __init__(
        self, clock: Clock, on_due: Callable[[str, float], object], jitter: Callable[[], float]
    ) -> None:
        self._clock, self._on_run_due, self._jitter = clock, on_due, jitter
        self._stored = MemoryJobStore()
        self._scheduler = _Scheduler(
            timezone=UTC,
            jobstores={"default": self._stored},
            executors={"default": _InPlace()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.start()
        self._lock = threading.RLock()
        self._triggers: dict[str, _Trigger] = {}
        self._offset = self._now_offset()
        self._before = clock.now()
        self.last_tick = clock.monotonic()

    def set(self, job: str, schedule: Schedule, first: datetime | None) -> None:
        """Schedule the job, or replace its schedule. `first` is its first run; None for never."""
        with self._lock:
            self.remove(job)
            if first is None:
                return
            self._check_clock_step()  # a step that `first` knows of already must not move it
            trigger = self._triggers[job] = _Trigger(
                schedule, first, self._clock.now(), self._jitter
            )
            self._scheduler.add_job(self._on_due, trigger, args=[job], id=job, name=job)

    def wake_at(self, job: str, moment: datetime | None) -> None:
        """Ask for one run of the job at this moment besides its schedule; None for no such run.

        The moment is one of the wall clock: after a clock step it comes when the clock shows it.
        """
        with self._lock:
            known = self._scheduler.get_job(_wake_id(job))
            if known is not None:
                self._scheduler.remove_job(known.id)
            if moment is not None:
                tick, name = moment.timestamp(), _wake_id(job)
                self._scheduler.add_job(
                    self._on_run_due, _Once(moment), args=[job, tick], id=name, name=name
                )

    def remove(self, job: str) -> None:
        """Remove the job's schedule, and the run that `wake_at` asked for."""
        self.wake_at(job, None)
        with self._lock:
            if (
                self._triggers.pop(job, None) is not None
                and self._scheduler.get_job(job) is not None
            ):
                self._scheduler.remove_job(job)

    def _on_due(self, job: str) -> None:
        trigger = self._triggers.get(job)
        if trigger is not None:
            self._on_run_due(job, trigger.due.timestamp())

    def next_run(self, job: str) -> datetime | None:
        """Return when the job runs next, jitter included."""
        with self._lock:
            found = self._scheduler.get_job(job)
            when: datetime | None = found.next_run_time if found is not None else None
            return when

    def due_within(self, seconds: float) -> list[tuple[str, float]]:
        """Return the jobs that are due within these seconds, with the seconds until then.

        Source: APScheduler 3, `BaseJobStore.get_due_jobs`.
        """
        with self._lock:
            now = self._clock.now()
            due = self._stored.get_due_jobs(now + timedelta(seconds=seconds))
            waits = [(one.id, (one.next_run_time - now).total_seconds()) for one in due]
            return [(name, wait) for name, wait in waits if name in self._triggers]

    def scheduled_after(self, job: str, moment: datetime) -> datetime | None:
        """Return the job's first scheduled time after `moment`, without jitter."""
        with self._lock:
            trigger = self._triggers.get(job)
            return None if trigger is None else trigger.schedule.next_after(moment)

    def tick(self) -> float:
        """Request a run of every job that is due. Returns the seconds until the next call at the
        latest.
        """
        with self._lock:
            self._check_clock_step()
            wait = self._scheduler.run_due()
            self.last_tick, self._before = self._clock.monotonic(), self._clock.now()
            return (
                MAX_SLEEP_SECONDS if wait is None else max(0.0, min(MAX_SLEEP_SECONDS, float(wait)))
            )

    def _now_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _check_clock_step(self) -> None:
        step, self._offset = self._now_offset() - self._offset, self._now_offset()
        if abs(step) <= CLOCK_STEP_SECONDS:
            return
        now = self._clock.now()
        LOG.warning(
            "the system's clock was set %s by %d s; the next run of every job was computed again",
            "forward" if step > 0 else "back",
            abs(step),
        )
        for job, trigger in self._triggers.items():
            trigger.forget()
            when = self._after_step(trigger, now, step)
            if when is not None and self._scheduler.get_job(job) is not None:
                self._scheduler.modify_job(job, next_run_time=when)

    def _after_step(self, trigger: _Trigger, now: datetime, step: float) -> datetime | None:
        if not isinstance(trigger.schedule, ByCron):
            return trigger.after_step(now, step)
        small = abs(step) <= MAX_CATCH_UP.total_seconds()
        if step > 0:
            missed = trigger.schedule.next_after(self._before)
            return (
                trigger.at(missed)
                if small and missed is not None and missed <= now
                else trigger.after(now)
            )
        return trigger.after(max(now, self._before) if small else now)
