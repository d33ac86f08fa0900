"""What happened to a job between two readings of the store, as the events of `syncd watch`.

A run that is in progress holds the job's lock, and its state may be half written: states are
compared when no run holds the lock. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from syncd.models import RunStatus, Trigger
from syncd.ports import JobState
from syncd.status.model import JobWarning
from syncd.status.render import rfc3339
from syncd.store.new_runs import NewRun

EVENTS = (
    "started",
    "changed",
    "unchanged",
    "waiting",
    "checking",
    "healthy",
    "rolled_back",
    "rejected",
    "failed",
    "recovered",
    "drift",
    "reload_pending",
    "reloaded",
    "stale",
    "paused",
    "resumed",
)
CHANGE_WORDS = {
    "write": "written",
    "restore": "put back",
    "mode": "mode",
    "remove": "removed",
    "keep": "left alone",
}


class JobEvent(Struct, frozen=True):
    """One event: when, of which job, what (one of `EVENTS`), in words, and what to do about it."""

    at: datetime
    job: str
    event: str
    text: str = ""
    commit: str | None = None
    hint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of `watch --json`."""
        return {
            "schema": "syncd.event/1",
            "at": rfc3339(self.at),
            "job": self.job,
            "event": self.event,
            "text": self.text,
            "commit": self.commit,
            "hint": self.hint,
        }


class JobReading(Struct, frozen=True):
    """A job at one moment: its state after the last run, whether a run is in progress, and its
    warnings.
    """

    state: JobState
    running: bool = False
    warnings: tuple[JobWarning, ...] = ()


def job_events(
    job: str,
    before: JobReading,
    after: JobReading,
    runs: Sequence[NewRun],
    now: datetime,
) -> list[JobEvent]:
    """Return what happened to the job between two readings, in order.

    `runs` are the runs of the job that were recorded in between.
    """
    return list(_events(job, before, after, runs, now))


def _events(
    job: str, before: JobReading, after: JobReading, runs: Sequence[NewRun], now: datetime
) -> Iterator[JobEvent]:
    is_known = before.running
    for warning in after.warnings:
        if warning not in before.warnings:
            yield JobEvent(now, job, "stale", warning.text, None, warning.hint)
    for run in runs:
        yield from _run_events(run, is_known, now)
        is_known = False
    if after.running:
        is_check = before.state.checking  # each health check holds the lock for a moment
        if not is_check and (runs or not before.running):
            yield JobEvent(now, job, "started")
        return
    found = list(_changes(job, before.state, after.state, now))
    if runs:  # the run itself says that it failed
        found = [one for one in found if one.event != "failed"]
    if before.running and not runs and not found and not before.state.checking:
        found = [_end_of_run(job, after.state, now)]
    yield from found


def _run_events(run: NewRun, is_known: bool, now: datetime) -> Iterator[JobEvent]:
    """Yield the start of a run, unless it is known, and how it ended."""
    started = _time(run.started_at) or now
    if not is_known:
        yield JobEvent(started, run.job, "started")
    ended = min(now, started + timedelta(seconds=run.seconds))
    counted = _counted(run.changes)
    if run.status in (RunStatus.FAILED, RunStatus.REFUSED):
        first = (run.error or run.status).splitlines()[0]
        text = f"{counted}, then {first}" if counted else first
        yield JobEvent(ended, run.job, "failed", text, run.commit)
    elif run.status == RunStatus.CHANGED:
        event = "rolled_back" if run.trigger == Trigger.ROLLBACK else "changed"
        text = f"{counted or 'no file'} at {(run.commit or '-')[:7]} ({run.trigger})"
        yield JobEvent(ended, run.job, event, text, run.commit)
    elif not is_known and run.status != RunStatus.WAITING:
        yield JobEvent(ended, run.job, "unchanged", counted, run.commit)


def _counted(changes: Mapping[str, int]) -> str:
    """Return the number of changes by action, such as `3 written, 1 removed`."""
    return ", ".join(
        f"{changes[action]} {word}" for action, word in CHANGE_WORDS.items() if action in changes
    )


def _end_of_run(job: str, state: JobState, now: datetime) -> JobEvent:
    """Return the end of a run that changed nothing, and left the job's state as it was."""
    error = state.last_error
    if error is None:
        return JobEvent(now, job, "unchanged", "", state.applied_commit)
    return JobEvent(now, job, "failed", _first_line(error.message), None, error.hint)


def _changes(job: str, before: JobState, after: JobState, now: datetime) -> Iterator[JobEvent]:
    """Yield what differs between two states of the job."""

    def event(name: str, text: str = "", hint: str | None = None) -> JobEvent:
        return JobEvent(now, job, name, text, after.applied_commit, hint)

    yield from _commit_changes(job, before, after, now)
    error = after.last_error
    if error is not None and (before.last_error is None or before.last_error.id != error.id):
        yield event("failed", _first_line(error.message), error.hint)
    if _is_ill(before) and not _is_ill(after):
        yield event("recovered")
    if after.drift_count and after.drift_count != before.drift_count:
        files = f"{after.drift_count} files or folders differ"
        if after.drift_count == 1:
            files = "1 file or folder differs"
        yield event("drift", files, f"syncd plan {job} --diff")
    if after.pending_reload is not None and before.pending_reload is None:
        yield event("reload_pending", "on_change has not succeeded yet")
    if before.pending_reload is not None and after.pending_reload is None:
        yield event("reloaded")
    if after.paused(now) and after.describe_pause() != before.describe_pause():
        reason = after.describe_pause().removeprefix("paused").removeprefix(":").strip()
        yield event("paused", reason, f"syncd resume {job}")
    if (before.held or before.pause is not None) and not (after.held or after.pause is not None):
        yield event("resumed")


def _commit_changes(
    job: str, before: JobState, after: JobState, now: datetime
) -> Iterator[JobEvent]:
    """Yield which commit is rejected, waits or is being checked now."""
    rejected, waiting, checked = after.rejection, after.waiting, after.pending_health
    if rejected is not None and rejected != before.rejection:
        text = f"commit {rejected.commit[:7]} is not tried again"
        yield JobEvent(now, job, "rejected", text, rejected.commit)
        was, is_now = ((one.applied_commit, one.applied_config_digest) for one in (before, after))
        if rejected.commit == before.applied_commit and was != is_now:
            text = f"back to {(after.applied_commit or '-')[:7]}"
            if after.applied_commit == rejected.commit:
                text = "back to the files of the configuration before it"
            yield JobEvent(now, job, "rolled_back", text, after.applied_commit)
    if waiting is not None and waiting != before.waiting:
        hint = f"syncd sync {job} --now"
        yield JobEvent(now, job, "waiting", waiting.describe(), waiting.commit, hint)
    if checked is not None and after.checking and not _is_checking(before, checked.commit):
        text = f"the health of commit {checked.commit[:7]} is being checked"
        yield JobEvent(now, job, "checking", text, checked.commit)
    pending = before.pending_health
    if pending is not None and checked is None and rejected == before.rejection:
        yield JobEvent(now, job, "healthy", f"commit {pending.commit[:7]}", pending.commit)


def _is_ill(state: JobState) -> bool:
    """Return whether the job fails, or its commit was rejected and the fix still waits."""
    return state.last_error is not None or None not in (state.rejection, state.waiting)


def _is_checking(state: JobState, commit: str) -> bool:
    return (
        state.checking
        and state.pending_health is not None
        and (state.pending_health.commit == commit)
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


__all__ = ["EVENTS", "JobEvent", "JobReading", "job_events"]
