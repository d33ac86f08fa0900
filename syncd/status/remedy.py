"""Why a job is not in sync, and the command that an operator types next.

`syncd status`, its JSON, the status page and `syncd doctor` say the same. Pure: no I/O.
"""

from __future__ import annotations

from datetime import datetime

from syncd.engine.hook_result import first_line, shown_command
from syncd.models import Job
from syncd.ports import PendingHealth, Rejection
from syncd.status.daemon_status import DaemonStatus
from syncd.status.model import JobSnapshot


def reasons_of(one: JobSnapshot, now: datetime) -> list[str]:
    """Return why the job is not in sync, one line each; none for a job that is."""
    state, found = one.state, []
    if one.condition == "paused":
        found.append(state.describe_pause())
    if state.last_error is not None:
        found.append(state.last_error.message or state.last_error.kind)
    if state.pending_reload is not None and one.job.on_change is not None:
        since = state.pending_reload.since
        when = f" since {since:%Y-%m-%d %H:%M} UTC" if since is not None else ""
        until = state.pending_reload.deferred_until
        waits = "" if until is None else f", and waits until {until:%Y-%m-%dT%H:%M:%SZ}"
        command = shown_command(one.job.on_change)
        found.append(f"on_change is pending{when}{waits}: {command}")
    if one.condition == "checking" and state.pending_health is not None:
        found.append(_window_text(state.pending_health, one.job))
    if state.drift_count == 1:
        found.append("1 file or folder differs from what was mirrored")
    elif state.drift_count:
        found.append(f"{state.drift_count:,} files or folders differ from what was mirrored")
    if state.waiting is not None:
        found.append(state.waiting.describe())
        if state.rejection is not None:
            found.append(_rejection_text(state.rejection))
    if not found and one.condition == "failing":
        found.append("the last run did not finish")
    return found


def _rejection_text(rejection: Rejection) -> str:
    """Return why the commit was rejected whose fix waits."""
    reason = rejection.reason or f"commit {rejection.commit[:7]} was rejected"
    return f"before it, {first_line(reason)}"


def _window_text(pending: PendingHealth, job: Job) -> str:
    """Return how far the health check of a change has come."""
    seconds = "" if job.health is None else f" of {job.health.window_seconds:.0f}"
    failed = f", the last {pending.failed} failed: {pending.reason}" if pending.failed else ""
    return (
        f"the health of commit {pending.commit[:7]} is being checked: "
        f"{pending.passed} passed in {pending.seconds:.0f}{seconds} s{failed}"
    )


def remedy_of(one: JobSnapshot) -> str | None:
    """Return what to do about a job that is not in sync, mostly a command; None for one that is."""
    name = one.job.name
    if one.condition == "paused":
        return f"syncd resume {name}"
    if one.condition == "failing":
        error = one.state.last_error
        return error.hint if error is not None and error.hint else f"syncd sync {name}"
    if one.condition == "drift":
        return f"syncd plan {name} --diff"
    if one.condition == "waiting" and one.state.waiting is not None:
        return f"to apply it now: syncd sync {name} --now"
    return f"syncd sync {name}" if one.condition == "never" else None


def daemon_problem(daemon: DaemonStatus) -> tuple[str, str] | None:
    """Return what is wrong with the daemon and what to do; None while all is well.

    A daemon that was stopped in order is well as long as no job is overdue.
    """
    if daemon.is_well:
        return None
    late, journal = _overdue_text(daemon.overdue), f"journalctl -u {daemon.service}"
    if daemon.alive:
        return f"running, but {late}", f"look at its log: {journal}"
    start = f"systemctl start {daemon.service}"
    if daemon.stopped:
        return f"stopped, and {late}", start
    return "dead: it ended without being stopped", f"{start}; why it ended: {journal}"


def _overdue_text(overdue: tuple[str, ...]) -> str:
    if len(overdue) == 1:
        return f"{overdue[0]} is overdue"
    more = f" and {len(overdue) - 3} more" if len(overdue) > 3 else ""
    return f"{len(overdue)} jobs are overdue ({', '.join(overdue[:3])}{more})"


__all__ = ["daemon_problem", "reasons_of", "remedy_of"]
