"""Read whether a daemon runs, and which jobs it should have run by now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from syncd.config.model import Config
from syncd.models import Job
from syncd.ports import JobState
from syncd.schedule import schedules_of
from syncd.status.daemon_status import DaemonStatus, DueRun, daemon_status
from syncd.store.facts import Heartbeat
from syncd.store.lock import daemon_runs, is_held
from syncd.store.store import SqliteStore
from syncd.unit_name import service_in_use


def read_daemon_status(
    config: Config, store: SqliteStore, states: Mapping[str, JobState], now: datetime
) -> DaemonStatus | None:
    """Return the status of the state folder's daemon; None where none has ever run.

    `states` are those of the jobs that may be overdue. A job that runs now is not. Raises
    StoreError.
    """
    heartbeat, lock_held = store.facts.heartbeat(), daemon_runs(config.state)
    service = service_in_use(None if heartbeat is None else heartbeat.pid)
    if heartbeat is None:
        return _of_service(service, daemon_status(None, lock_held, now, ()))
    due = [
        one
        for one in _due_runs(config, store, states, heartbeat)
        if one.due_at <= now
        and not states[one.job].paused(now)
        and not states[one.job].checking
        and not is_held(config.state, one.job)
    ]
    return _of_service(service, daemon_status(heartbeat, lock_held, now, due))


def _of_service(service: str, status: DaemonStatus | None) -> DaemonStatus | None:
    return None if status is None else replace(status, service=service)


def _due_runs(
    config: Config, store: SqliteStore, states: Mapping[str, JobState], heartbeat: Heartbeat
) -> Iterable[DueRun]:
    schedules = schedules_of(config.jobs, config.timezone)
    backoffs = store.facts.backoffs()
    for name, state in states.items():
        last = state.last_run_at or heartbeat.started_at
        pause_until = None if state.pause is None else state.pause.until
        waits = [backoffs.get(name), pause_until]
        begins = max([last, *(moment for moment in waits if moment is not None)])
        due_at = schedules[name].next_after(begins)
        if due_at is not None:
            jitter = timedelta(seconds=schedules[name].jitter_seconds)
            yield DueRun(name, due_at + jitter, _interval(config.jobs[name], due_at, config))


def _interval(job: Job, due_at: datetime, config: Config) -> float | None:
    if job.every_seconds:
        return job.every_seconds
    following = schedules_of({job.name: job}, config.timezone)[job.name].next_after(due_at)
    return None if following is None else (following - due_at).total_seconds()


__all__ = ["read_daemon_status"]
