"""Whether a change is healthy: the health window as values.

The window opens when the whole set is in place and reloaded. The command runs every `every`. The
change is unhealthy as soon as `failures` checks in a row have failed, and at the end of the window
where no check has passed or the last one could not be run. It is healthy when the window has ended
and the last check has passed; where the last one has failed, checks go on until either is so.

Only watched time counts: a machine that was off, a syncd that was killed and a clock that was set
forward do not bring the end nearer. Pure: no I/O; `health_check.py` runs the command.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

from msgspec.structs import replace

from syncd.engine.rejection import hook_config_digest
from syncd.models import Health, Job
from syncd.ports import CheckResult, JobState, PendingHealth


class Verdict(Enum):
    """What the checks so far say of a change."""

    UNDECIDED = auto()
    HEALTHY = auto()
    UNHEALTHY = auto()


def decide(health: Health, pending: PendingHealth) -> Verdict:
    """Return what the checks so far say of the change."""
    if pending.failed >= health.failures:
        return Verdict.UNHEALTHY
    if pending.seconds < health.window_seconds:
        return Verdict.UNDECIDED
    if pending.last is CheckResult.PASSED:
        return Verdict.HEALTHY
    if pending.passed == 0 or pending.last is CheckResult.NOT_RUN:
        return Verdict.UNHEALTHY
    return Verdict.UNDECIDED


def seconds_until_check(health: Health, pending: PendingHealth, now: datetime) -> float:
    """Return how long the next check has to wait; at most one interval, whatever the clock says."""
    elapsed = _seconds_since_last(pending, now)
    return health.interval_seconds - elapsed if 0 <= elapsed < health.interval_seconds else 0.0


def after_check(
    health: Health, pending: PendingHealth, result: CheckResult, began_at: datetime, reason: str
) -> PendingHealth:
    """Return the pending check after one that began at `began_at`.

    `reason` says why it has not passed.
    """
    longest = health.interval_seconds + health.timeout_seconds
    watched = min(max(0.0, _seconds_since_last(pending, began_at)), longest)
    passed, failed = pending.passed, pending.failed
    if result is CheckResult.PASSED:
        passed, failed, reason = passed + 1, 0, ""
    elif result is CheckResult.FAILED:
        failed += 1
    return replace(
        pending,
        checked_at=began_at,
        seconds=pending.seconds + watched,
        passed=passed,
        failed=failed,
        last=result,
        reason=reason,
    )


def _seconds_since_last(pending: PendingHealth, now: datetime) -> float:
    """Return the seconds since the last check began, or since the window opened."""
    last = pending.checked_at or pending.since
    return 0.0 if last is None else (now - last).total_seconds()


# --- the job's state ------------------------------------------------------------------------------


def with_intended_check(job: Job, state: JobState, commit: str) -> JobState:
    """Return the state to store with an intent: the set of this commit has to pass its check.

    It is stored before the first file is written, so that a set is never healthy only because syncd
    was killed. A repair of the applied set needs no check, but one that is pending stays.
    """
    pending = state.pending_health
    is_applied = commit == state.applied_commit and job.digest == state.applied_config_digest
    if job.health is None or (is_applied and pending is None):
        return state
    return replace(state, pending_health=PendingHealth(commit, hook_config_digest(job)))


def with_paused_check(state: JobState) -> JobState:
    """Return the state to store with the intent of a rollback: an open window closes until the next
    whole set.

    The check stays pending until the rollback is done.
    """
    pending = state.pending_health
    return state if pending is None else replace(state, pending_health=_anew(pending))


def with_whole_set(job: Job, state: JobState, commit: str) -> JobState:
    """Return the state once the whole set of this commit is in place; a pending check is for it."""
    if state.pending_health is None:
        return state
    if job.health is None:
        return without_check(state)
    return replace(state, pending_health=PendingHealth(commit, hook_config_digest(job)))


def without_check(state: JobState) -> JobState:
    """Return the state without a pending check, and without the way back that only it needs."""
    if state.pending_health is None:
        return state
    undo = None if state.pending_reload is None else state.undo
    return replace(state, pending_health=None, undo=undo)


def succeeded(state: JobState, now: datetime) -> JobState:
    """Return the state after a run that did everything: a success, or the begin of its health
    window.
    """
    if state.pending_health is None:
        return state.after_success(now)
    return replace(with_open_window(state, now), failures=0, last_error=None)


def with_open_window(state: JobState, now: datetime) -> JobState:
    """Return the state with the window open, where a check is pending and its set is whole and
    reloaded.
    """
    pending = state.pending_health
    if pending is None or pending.since is not None or state.pending_reload is not None:
        return state
    is_whole = state.consistent and pending.commit == state.applied_commit
    return replace(state, pending_health=replace(pending, since=now)) if is_whole else state


def with_present_config(job: Job, state: JobState, now: datetime) -> JobState:
    """Return the state with a window that the job's present hooks judge.

    Hooks that are configured in another way since begin the window again. Where the set itself is
    configured in another way, the window goes on: the next run applies that.
    """
    pending, digest = state.pending_health, hook_config_digest(job)
    if pending is None or pending.config_digest == digest:
        return state
    if job.digest != state.applied_config_digest:
        return state
    return replace(state, pending_health=PendingHealth(pending.commit, digest, since=now))


def _anew(pending: PendingHealth) -> PendingHealth:
    return PendingHealth(pending.commit, pending.config_digest)


__all__ = [
    "Verdict",
    "after_check",
    "decide",
    "seconds_until_check",
    "succeeded",
    "with_intended_check",
    "with_open_window",
    "with_paused_check",
    "with_present_config",
    "with_whole_set",
    "without_check",
]
