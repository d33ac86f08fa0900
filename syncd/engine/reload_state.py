"""When a pending reload is due, and what its attempts mean for the job's state.

A reload is pending from the moment a change is intended until `on_change` has succeeded once,
across crashes and restarts. `reload.py` runs the command. Pure: no I/O.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from msgspec.structs import replace

from syncd.engine import health
from syncd.engine.hook_result import shown_command
from syncd.errors import HookFailedError, SyncdError
from syncd.models import Hook, Job, RunReport, RunStatus, Trigger
from syncd.ports import JobState, PendingReload

MIN_RETRY_DELAY = timedelta(minutes=1)
MAX_RETRY_DELAY = timedelta(hours=1)


def shared_key(job: Job) -> tuple[object, ...] | None:
    """Return a key: jobs with the same one run their `on_change` together.

    None: they have no `on_change`.
    """
    return None if job.on_change is None else (job.on_change.argv, job.hook_user)


def command_digest(job: Job) -> str:
    """Return a digest that is equal for jobs that run their `on_change` together."""
    return sha256(repr(shared_key(job)).encode()).hexdigest()[:32]


def require_reload(job: Job, state: JobState, since: datetime | None) -> JobState:
    """Return the state with a reload pending; `since` is when the run began that makes the
    changes.
    """
    if job.on_change is None:
        return replace(state, pending_reload=None)
    pending = state.pending_reload or PendingReload(reloaded_commit=state.applied_commit)
    pending = replace(pending, since=pending.since or since, deferred_until=None)
    return replace(state, pending_reload=pending)


def with_intended_reload(job: Job, state: JobState, since: datetime | None) -> JobState:
    """Return the state to store with an intent: the change that is intended needs a reload.

    Without an `on_change` it stays as it is: what is pending is dropped once the change is made.
    """
    return state if job.on_change is None else require_reload(job, state, since)


def with_reload_commit(state: JobState, commit: str | None) -> JobState:
    """Return the state whose pending reload, if there is one, is for this commit."""
    pending = state.pending_reload
    return replace(
        state, pending_reload=None if pending is None else replace(pending, commit=commit)
    )


def is_reload_due(job: Job, state: JobState) -> bool:
    """Return whether a reload is pending and the whole set that it is for is in place."""
    pending = state.pending_reload
    return job.on_change is not None and pending is not None and pending.commit is not None


def retry_at(state: JobState, trigger: Trigger, changed: bool, now: datetime) -> datetime | None:
    """Return until when a reload that failed before has to wait; None for a reload that may run
    now.

    Only runs by schedule and retries wait: an operator or a push does not.
    """
    pending = state.pending_reload
    if pending is None or pending.tried_at is None:
        return None
    if changed or trigger not in (Trigger.SCHEDULE, Trigger.RETRY):
        return None
    doublings = min(max(0, pending.attempts - 1), 16)
    due = pending.tried_at + min(MAX_RETRY_DELAY, MIN_RETRY_DELAY * 2**doublings)
    return due if due > now else None


def reload_pending_error(hook: Hook, state: JobState, until: datetime) -> HookFailedError:
    """Return the error of a run whose pending reload still has to wait."""
    pending = state.pending_reload or PendingReload()
    reason = "" if state.last_error is None else state.last_error.message
    return HookFailedError(
        f"on_change is pending since {pending.attempts} failed attempt(s): "
        f"{reason or shown_command(hook)}",
        id="hook/reload-waits",
        hint=f"it is tried again at {until:%Y-%m-%dT%H:%M:%SZ}; or now: syncd sync",
    )


def deferred(state: JobState, until: datetime, is_well: bool, now: datetime) -> JobState:
    """Return the state whose pending reload `reload:` puts off.

    `is_well`: the run had no error. An earlier error is over then, but for that of the reload.
    """
    pending = state.pending_reload
    if pending is None:
        return state
    if is_well and pending.attempts == 0:
        state = replace(state, failures=0, last_error=None)
    pending = replace(pending, deferred_until=until)
    return replace(state, pending_reload=pending).with_condition(now)


def reload_done(state: JobState, report: RunReport, now: datetime) -> JobState:
    """Return the state after a reload that succeeded.

    A run that did everything is a success only now, or after its health window, which opens now.
    """
    undo = None if state.pending_health is None else state.undo
    after = replace(state, pending_reload=None, undo=undo)
    is_success = report.status in (RunStatus.CHANGED, RunStatus.UNCHANGED, RunStatus.WAITING)
    step = health.succeeded if is_success else health.with_open_window
    return step(after, now).with_condition(now)


def reload_failed_again(state: JobState, error: SyncdError, own: bool, now: datetime) -> JobState:
    """Return the state after one more failed attempt.

    `own`: the run had no other error, so this is the job's.
    """
    after = _after_failed_attempt(state, now)
    return (after.after_failure(error) if own else after).with_condition(now)


def after_undo(
    state: JobState, verdict: HookFailedError, again: HookFailedError | None, now: datetime
) -> JobState:
    """Return the state after the previous set was put back and the reload run once more.

    The reload is still pending when that failed too. The job is failing in both cases.
    """
    if again is None:
        state = replace(state, pending_reload=None)
    else:
        state = _after_failed_attempt(state, now)
    return state.after_failure(verdict).with_condition(now)


def _after_failed_attempt(state: JobState, now: datetime) -> JobState:
    pending = state.pending_reload
    if pending is None:
        return state
    tried = replace(pending, attempts=pending.attempts + 1, tried_at=now, deferred_until=None)
    return replace(state, pending_reload=tried)
