"""Reload of the configuration: compare the old one with the new one, and disturb only what
changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.apply_windows import closed_at
from syncd.config.model import Config, Fleet
from syncd.daemon.context import DaemonContext
from syncd.errors import ConfigError
from syncd.models import Job, Trigger
from syncd.ports import JobState
from syncd.schedule import first_run_after_start, schedules_of
from syncd.unit_name import service_in_use


class JobChanges(Struct, frozen=True):
    """Jobs that a reload adds, removes, gives another schedule or changes in another way."""

    added: list[str]
    removed: list[str]
    rescheduled: list[str]
    affected: list[str]

    @property
    def changed(self) -> int:
        """Return how many jobs stay and are different."""
        return len({*self.affected, *self.rescheduled})


def apply_config(parts: DaemonContext, config: Config) -> JobChanges:
    """Use the configuration from now on, and return which jobs it changes.

    Raises ConfigError for another state folder and for a secret that can't be read; nothing has
    changed then.
    """
    before = parts.app.config
    if config.state != before.state:
        raise ConfigError(
            f"state: {config.state} is another folder than {before.state}",
            hint=f"a new state folder needs a restart: systemctl restart {service_in_use('self')}",
            id="config/state-changed",
        )
    if needs_restart(before.fleet, config.fleet):
        raise ConfigError(
            "fleet: is not as it was",
            hint="another database, role, name or key needs a restart: "
            f"systemctl restart {service_in_use('self')}",
            id="config/fleet-changed",
        )
    identities = parts.app.replace_config(config)
    changes = compare(before, config, identities)
    for name in changes.removed:
        forget_job(parts, name)
    schedule_jobs(parts, config, changes.rescheduled, starting=True)
    schedule_jobs(parts, config, changes.added)
    parts.queue.clear_backoff(changes.affected)
    for name in changes.affected:
        parts.queue.enqueue(name, Trigger.START)
    return changes


def needs_restart(before: Fleet | None, after: Fleet | None) -> bool:
    """Return whether more of the fleet differs than its jobs and labels."""
    if before is None or after is None:
        return before is not after
    jobs = {"published": after.published, "not_here": after.not_here}
    return replace(before, labels=after.labels, **jobs) != after


def compare(before: Config, after: Config, identities: frozenset[str]) -> JobChanges:
    """Return what a reload changes. `identities` are those with another key, token or address."""
    stay = [name for name in after.jobs if name in before.jobs]
    return JobChanges(
        added=[name for name in after.jobs if name not in before.jobs],
        removed=[name for name in before.jobs if name not in after.jobs],
        rescheduled=sorted(
            name for name in stay if _schedule(after, name) != _schedule(before, name)
        ),
        affected=sorted(
            name
            for name in stay
            if after.jobs[name].identity in identities
            or _without_schedule(after.jobs[name]) != _without_schedule(before.jobs[name])
        ),
    )


def schedule_jobs(
    parts: DaemonContext, config: Config, names: Sequence[str], starting: bool = False
) -> None:
    """Schedule these jobs and set their status.

    With `starting`, an overdue job with `every:` runs soon; a missed `cron:` run is not caught up.
    """
    schedules, now = schedules_of(config.jobs, config.timezone), parts.clock.now()
    for name in names:
        job, state = config.jobs[name], parts.app.store.state(name)
        last_run = state.last_run_at if starting else None
        if job.first is not None and state.last_success_at is None:
            last_run = None  # it runs soon, however long ago it failed
        first = first_run_after_start(job, schedules[name], last_run, now, len(names))
        parts.scheduler.set(name, schedules[name], first)
        parts.scheduler.wake_at(name, _wake_time(job, state, now))
        parts.job_status.set(name, state, now)
        if starting and state.pending_health is not None:
            parts.queue.enqueue(name, Trigger.START)  # its health window goes on at once


def _wake_time(job: Job, state: JobState, now: datetime) -> datetime | None:
    """Return when the commit that waits may be applied, or when a reload that was put off may run;
    None where nothing waits.
    """
    closed = None if state.waiting is None else closed_at(job.apply, now)
    window = now if state.waiting is not None and closed is None else None
    window = closed.until if closed is not None else window
    pending = state.pending_reload
    reload_at = None if pending is None else pending.deferred_until
    return min((one for one in (window, reload_at) if one is not None), default=None)


def forget_job(parts: DaemonContext, name: str) -> None:
    """Forget a job that was removed from the configuration. A run in progress ends by itself."""
    parts.scheduler.remove(name)
    parts.queue.remove(name)
    parts.job_status.remove(name)
    parts.run_log.forget(name)
    parts.push_trigger.forget(name)


def _schedule(config: Config, name: str) -> tuple[object, ...]:
    job = config.jobs[name]
    return job.every_seconds, job.cron, job.jitter_seconds, config.timezone if job.cron else None


def _without_schedule(job: Job) -> Job:
    return replace(job, every_seconds=None, cron=None, jitter_seconds=0.0)


__all__ = ["apply_config", "needs_restart", "schedule_jobs"]
