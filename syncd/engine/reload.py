"""Run the pending reloads: `on_change`, after all files are in place, until it succeeds.

Jobs that share one command run it together, once. Since the intent the store knows that a reload is
pending; this only runs the command and records what came of it. The caller holds the jobs' locks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from threading import Lock
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine import hook_call, hook_result, reload_state
from syncd.engine.context import Options, RunContext
from syncd.engine.reload_spacing import (
    BUSY_SECONDS,
    may_start_at,
    pending_of,
    retry_while_running_at,
    spacing_of,
)
from syncd.engine.run import run_job
from syncd.engine.undo import undo_change
from syncd.errors import HookFailedError, MirrorError, StoppedError, StoreError, SyncdError
from syncd.models import Hook, Job, RunReport, RunStatus
from syncd.ports import HookResult, JobState, PendingReload, RunRecord
from syncd.progress import Step

Held = TypeVar("Held")


class JobRun(Struct, frozen=True):
    """One job after its run. `ctx` is None where the run could not begin."""

    job: Job
    ctx: RunContext | None
    report: RunReport


class ReloadGroup(Generic[Held]):
    """Collects the jobs that share an `on_change`, until the last of them has run.

    Each job brings what it holds meanwhile, such as its lock. Safe to use from many threads; no
    thread waits.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._lock = Lock()
        self._order = {job.name: place for place, job in enumerate(jobs)}
        self._missing = Counter(reload_state.shared_key(job) for job in jobs)
        self._arrived: dict[object, list[tuple[JobRun, Held]]] = {}

    def arrive(self, member: JobRun, held: Held) -> list[tuple[JobRun, Held]]:
        """Add a job; return the jobs that can go on now.

        That is the job alone when it has no `on_change`, and no job while others are missing. With
        the last of them it is all, in the order of the jobs.
        """
        key = reload_state.shared_key(member.job)
        if key is None:
            return [(member, held)]
        with self._lock:
            self._missing[key] -= 1
            self._arrived.setdefault(key, []).append((member, held))
            if self._missing[key]:
                return []
            return sorted(self._arrived.pop(key), key=lambda one: self._order[one[0].job.name])


class DueReload(Struct, frozen=True):
    """A job whose reload is to run now."""

    job: Job
    ctx: RunContext
    report: RunReport

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.name

    @property
    def state(self) -> JobState:
        """The job's state, read from the store now."""
        return self.ctx.store.state(self.job.name)

    @property
    def pending(self) -> PendingReload:
        """The reload, as it is in the store now."""
        return self.state.pending_reload or PendingReload()

    @property
    def now(self) -> datetime:
        """The present time."""
        return self.ctx.clock.now()


class UndoResult(Struct, frozen=True):
    """One job whose previous set was put back.

    `trouble` is the error that an unfinished undo ended with.
    """

    verdict: HookFailedError
    left_alone: tuple[str, ...] = ()
    trouble: SyncdError | None = None


def run_job_and_reload(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> RunReport:
    """Run the job and its reload; return the report. The caller holds the job's lock."""
    return run_reload([JobRun(job, ctx, run_job(job, ctx, deadline, options))], deadline)[0]


def run_reload(
    members: Sequence[JobRun], deadline: Deadline, waits: bool = True
) -> list[RunReport]:
    """Run the pending reload of these jobs, which share the command; return their reports, in
    order.

    A reload that `reload:` puts off is waited for as long as the deadline allows, where `waits`;
    else it stays pending, and the reports say until when.
    """
    began = time.perf_counter()
    reports = {member.job.name: _report_without_reload(member) for member in members}
    due = [
        DueReload(member.job, member.ctx, member.report)
        for member in members
        if reports[member.job.name] is None and member.ctx is not None
    ]
    reloaded = _reload_in_turn(due, deadline, began, waits) if due else {}
    return [reports[member.job.name] or reloaded[member.job.name] for member in members]


def _report_without_reload(member: JobRun) -> RunReport | None:
    """Return the report of a job that has nothing to reload now; None where the command has to
    run.
    """
    job, ctx, report = member.job, member.ctx, member.report
    if ctx is None or report.status is RunStatus.SKIPPED:
        return report
    state = ctx.store.state(job.name)
    if job.on_change is None:
        return replace(report, reload_pending=False)
    if not reload_state.is_reload_due(job, state) or ctx.store.intent(job.name) is not None:
        return replace(report, reload_pending=state.pending_reload is not None)
    is_changed = report.status is RunStatus.CHANGED
    until = reload_state.retry_at(state, report.trigger, is_changed, ctx.clock.now())
    if until is None:
        return None
    error = reload_state.reload_pending_error(job.on_change, state, until)
    return _with_reload_error(report, error)


def _reload_in_turn(
    due: Sequence[DueReload], deadline: Deadline, began: float, waits: bool
) -> dict[str, RunReport]:
    """Run the command when `reload:` lets it, or put it off."""
    spacing, turns = spacing_of(one.job for one in due), due[0].ctx.reload_turns
    if not spacing.is_given or turns is None:
        return _reload(due, deadline, began)
    command = reload_state.command_digest(due[0].job)
    while True:
        with turns.turn(command) as is_ours:
            now = due[0].now
            pending = pending_of([one.state for one in due], turns.last_start(command))
            at = may_start_at(spacing, pending, now)
            if is_ours and at <= now:
                return _reload(due, deadline, began)
        if not is_ours:
            at = retry_while_running_at(spacing, pending, now)
        seconds = (at - now).total_seconds()
        if not waits or seconds >= deadline.remaining_seconds():
            return {one.name: _deferred(one, at) for one in due}
        deadline.progress.step(Step.ON_CHANGE, f"not before {at:%H:%M:%S} UTC")
        deadline.wait(seconds)


def _deferred(one: DueReload, until: datetime) -> RunReport:
    """Put the job's reload off, and return the report that says so."""
    is_well = one.report.error is None
    state = one.ctx.store.change_state(
        one.name, lambda state: reload_state.deferred(state, until, is_well, one.now)
    )
    notes = (
        *one.report.notes,
        f"on_change waits until {until:%Y-%m-%dT%H:%M:%SZ}, as reload: asks",
    )
    if state.pending_health is not None:
        notes += ("the health of the change is checked after that, and is not known yet",)
    return replace(one.report, reload_pending=True, reload_at=until, notes=notes)


def _reload(due: Sequence[DueReload], deadline: Deadline, began: float) -> dict[str, RunReport]:
    """Run the command; after a failure undo what is to be undone, and run it once more."""
    hook = due[0].job.on_change
    if hook is None:
        return {}
    try:
        end = _run_command(hook, due, deadline)
        undone = _undo_after_failure(due, hook, end)
        if any(one.trouble is None for one in undone.values()):
            end = _run_command(hook, due, deadline)
        error = hook_result.reload_error(hook, end)
    except SyncdError as stopped:
        return {one.name: _with_reload_error(one.report, stopped) for one in due}
    seconds = time.perf_counter() - began
    reports = {}
    for one in due:
        timed = replace(one, report=replace(one.report, seconds=one.report.seconds + seconds))
        if one.name in undone:
            reports[one.name] = _record_undo(timed, undone[one.name], error)
        else:
            reports[one.name] = _record_reload(timed, hook, error)
    return reports


def _run_at_once(hook: Hook, one: DueReload, deadline: Deadline) -> HookResult:
    """Run the command as soon as it is not running elsewhere. Raises as `_run_command` does."""
    turns = one.ctx.reload_turns
    if not one.job.reload.is_given or turns is None:
        return _run_command(hook, [one], deadline)
    while True:
        with turns.turn(reload_state.command_digest(one.job)) as is_ours:
            if is_ours:
                return _run_command(hook, [one], deadline)
        deadline.wait(BUSY_SECONDS)


def _run_command(hook: Hook, due: Sequence[DueReload], deadline: Deadline) -> HookResult:
    """Run the command for these jobs.

    Raises StoppedError, StoreError: whether it ran is not known then, and the reload stays pending.
    """
    if deadline.stop.is_set():
        raise StoppedError(
            "syncd was stopped by a signal before on_change was run; it stays pending"
        )
    pending = {one.name: one.pending for one in due}
    changes = {
        one.name: one.ctx.store.changes_since(one.name, pending[one.name].since or one.now)
        for one in due
    }
    reports = [_report_for_command(one.report, pending[one.name]) for one in due]
    hooks = due[0].ctx.hooks
    if hooks is None:
        return HookResult(problem="there is nothing to run hooks with")
    turns = due[0].ctx.reload_turns
    if turns is not None and any(one.job.reload.is_given for one in due):
        turns.note_start(reload_state.command_digest(due[0].job), due[0].now)
    deadline.progress.step(Step.ON_CHANGE, hook_result.shown_command(hook))
    call = hook_call.build_call(hook, [one.job for one in due], reports, changes)
    return hooks.run(call, deadline)


def _report_for_command(report: RunReport, pending: PendingReload) -> RunReport:
    """Return the report with the commit that is reloaded, and the one that was reloaded before
    it.
    """
    return replace(report, commit=pending.commit, previous=pending.reloaded_commit)


def _undo_after_failure(
    due: Sequence[DueReload], hook: Hook, end: HookResult
) -> dict[str, UndoResult]:
    """Bring back the previous set of each job with `undo_on_failure`, where the command failed."""
    if end.status == 0:
        return {}
    undone = {}
    for one in due:
        verdict = hook_result.undo_verdict(hook, end, one.pending.commit or "")
        if verdict is None or not one.job.undo_on_failure:
            continue
        result = _undo(one, verdict)
        if result is not None:
            undone[one.name] = result
    return undone


def _undo(one: DueReload, verdict: HookFailedError) -> UndoResult | None:
    """Bring back the job's previous set; return None where it is not known any more."""
    try:
        left_alone = undo_change(one.job, one.ctx, one.report, verdict)
    except (MirrorError, StoreError) as trouble:
        return UndoResult(verdict, trouble=trouble)
    return None if left_alone is None else UndoResult(verdict, left_alone)


def take_back(one: DueReload, verdict: HookFailedError, deadline: Deadline) -> RunReport | None:
    """Bring back the job's previous set, for which `on_change` runs again; return the report.

    None where the previous set is not known any more: nothing was changed then.
    """
    undone, hook = _undo(one, verdict), one.job.on_change
    if undone is None:
        return None
    second_error = None
    if hook is not None and undone.trouble is None:
        try:
            second_error = hook_result.reload_error(hook, _run_at_once(hook, one, deadline))
        except SyncdError as stopped:
            one.ctx.store.change_state(
                one.name, lambda state: state.after_failure(verdict).with_condition(one.now)
            )
            refused = replace(one.report, status=RunStatus.REFUSED, error=verdict, checking=False)
            return _with_reload_error(refused, stopped)
    return _record_undo(one, undone, second_error)


def _record_undo(
    one: DueReload, undone: UndoResult, second_error: HookFailedError | None
) -> RunReport:
    """Record that the job's commit is rejected and its previous set is back; return the report that
    says so.
    """
    verdict, now = undone.verdict, one.now
    notes = [f"left alone, since it was edited: {path}" for path in undone.left_alone]
    if undone.trouble is None:
        status = RunStatus.REFUSED
        state = one.ctx.store.change_state(
            one.name, lambda state: reload_state.after_undo(state, verdict, second_error, now)
        )
        if second_error is not None:
            notes.append(f"after that too, {hook_result.first_line(second_error.message)}")
    else:
        status, error = RunStatus.FAILED, _unfinished_undo_error(verdict, undone.trouble)
        verdict = error
        state = one.ctx.store.change_state(
            one.name, lambda state: reload_state.reload_failed_again(state, error, True, now)
        )
    return replace(
        one.report,
        status=status,
        error=verdict,
        commit=undone.verdict.commit,
        changes=(),
        bytes_written=0,
        files=state.files,
        reload_pending=state.pending_reload is not None,
        checking=False,
        notes=(*one.report.notes, *notes),
    )


def _unfinished_undo_error(verdict: HookFailedError, trouble: SyncdError) -> HookFailedError:
    return HookFailedError(
        f"{hook_result.first_line(verdict.message)}; but not all of it could be: {trouble.message}",
        output=verdict.output,
        status=verdict.status,
        id="hook/undo-unfinished",
        hint=trouble.hint or "the next run goes on with it",
    )


def _record_reload(one: DueReload, hook: Hook, error: HookFailedError | None) -> RunReport:
    """Record the outcome of the command; return the report that says so."""
    if error is not None:
        return _record_failure(one, error)
    store, report, now = one.ctx.store, one.report, one.now
    attempts = one.pending.attempts
    store.change_state(one.name, lambda state: reload_state.reload_done(state, report, now))
    note = f"the pending on_change was run: {hook_result.shown_command(hook)}"
    if report.status is RunStatus.CHANGED and attempts == 0:
        note = "reloaded"
    return replace(report, reload_pending=False, notes=(*report.notes, note))


def _record_failure(one: DueReload, error: HookFailedError) -> RunReport:
    store, now = one.ctx.store, one.now
    failed = _with_reload_error(one.report, error)
    is_only_error = one.report.error is None
    state = store.change_state(
        one.name,
        lambda state: reload_state.reload_failed_again(state, error, is_only_error, now),
    )
    if is_only_error:
        store.record(one.name, RunRecord(replace(failed, changes=()), state=state))
    return failed


def _with_reload_error(report: RunReport, error: SyncdError) -> RunReport:
    """Return the report with the reload's error: as its own, or as a note beside the one it has."""
    if report.error is None:
        return replace(report, reload_pending=True, status=RunStatus.FAILED, error=error)
    note = hook_result.first_line(error.message)
    return replace(report, reload_pending=True, notes=(*report.notes, note))
