"""Pays what a run owes: `on_change` after all files are in place, once for all jobs that share the command, until it succeeds.

The debt itself is in the store since the intent; this only runs the command and says what came of it. The caller holds the jobs' locks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine import hook_state
from syncd.engine.run import Options, RunContext, run_job
from syncd.engine.undo import undo_change
from syncd.errors import HookFailedError, MirrorError, StoppedError, StoreError, SyncdError
from syncd.models import Hook, Job, RunReport, RunStatus
from syncd.ports import HookResult, RunRecord

Held = TypeVar("Held")


class JobRun(Struct, frozen=True):
    """One job after its run. `ctx` is None where the run could not begin."""

    job: Job
    ctx: RunContext | None
    report: RunReport


class ReloadGroup(Generic[Held]):
    """Where the jobs of one command meet: those that share an `on_change` are handed on together, when the last of them has arrived.

    Each brings what it holds meanwhile, such as its lock. Safe to use from many threads; nobody waits.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._guard = Lock()
        self._order = {job.name: place for place, job in enumerate(jobs)}
        self._missing = Counter(hook_state.shared_key(job) for job in jobs)
        self._here: dict[object, list[tuple[JobRun, Held]]] = {}

    def arrive(self, member: JobRun, held: Held) -> list[tuple[JobRun, Held]]:
        """Those who can go on now: only this one when its job has no `on_change`; nobody yet; or, with the last of them, all, in the order of the jobs."""
        key = hook_state.shared_key(member.job)
        if key is None:
            return [(member, held)]
        with self._guard:
            self._missing[key] -= 1
            self._here.setdefault(key, []).append((member, held))
            return (
                []
                if self._missing[key]
                else sorted(self._here.pop(key), key=lambda one: self._order[one[0].job.name])
            )


class DueReload(Struct, frozen=True):
    """A job whose reload is to run now."""

    job: Job
    ctx: RunContext
    report: RunReport


def run_job_and_reload(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> RunReport:
    """One run with everything that belongs to it. The job's lock is held by the caller."""
    return run_reload([JobRun(job, ctx, run_job(job, ctx, deadline, options))], deadline)[0]


def run_reload(members: Sequence[JobRun], deadline: Deadline) -> list[RunReport]:
    """What the jobs owe is paid, by one run of the command that they share; the reports as they are then, in order."""
    began = time.perf_counter()
    reports = {member.job.name: _left_waiting(member) for member in members}
    due = [
        DueReload(member.job, member.ctx, member.report)
        for member in members
        if reports[member.job.name] is None and member.ctx is not None
    ]
    paid = _pay(due, deadline, began) if due else {}
    return [reports[member.job.name] or paid[member.job.name] for member in members]


def _left_waiting(member: JobRun) -> RunReport | None:
    """The report of a job that has nothing to pay now; None where the command is to run."""
    job, ctx, report = member.job, member.ctx, member.report
    if ctx is None or report.status is RunStatus.SKIPPED:
        return report
    state = ctx.store.state(job.name)
    if (
        job.on_change is None
        or not hook_state.is_reload_due(job, state)
        or ctx.store.intent(job.name) is not None
    ):
        return replace(report, reload_pending=state.reload_pending and job.on_change is not None)
    until = hook_state.retry_at(
        state, report.trigger, report.status is RunStatus.CHANGED, ctx.clock.now()
    )
    if until is None:
        return None
    return _blamed(report, hook_state.reload_pending_error(job.on_change, state, until))


def _pay(due: Sequence[DueReload], deadline: Deadline, began: float) -> dict[str, RunReport]:
    hook = due[0].job.on_change
    if hook is None:
        return {}
    try:
        end = _run(hook, due, deadline)
        undone = _undo_where_asked(due, hook, end)
        whole = any(one.trouble is None for one in undone.values())
        error = hook_state.reload_failed(hook, _run(hook, due, deadline) if whole else end)
    except SyncdError as stopped:
        return {one.job.name: _blamed(one.report, stopped) for one in due}
    seconds = time.perf_counter() - began
    timed = (
        replace(one, report=replace(one.report, seconds=one.report.seconds + seconds))
        for one in due
    )
    return {
        one.job.name: _withdrawn(one, undone[one.job.name], error)
        if one.job.name in undone
        else _settle(one, hook, error)
        for one in timed
    }


def _run(hook: Hook, due: Sequence[DueReload], deadline: Deadline) -> HookResult:
    """The command has run for these jobs. Raises StoppedError, StoreError: nothing is known of it then, and it stays owed."""
    if deadline.stop.is_set():
        raise StoppedError("stopped by a signal before on_change was run; it stays owed")
    states = {one.job.name: one.ctx.store.state(one.job.name) for one in due}
    changes = {
        one.job.name: one.ctx.store.changes_since(
            one.job.name, states[one.job.name].reload_since or one.ctx.clock.now()
        )
        for one in due
    }
    reports = [
        replace(
            one.report,
            commit=states[one.job.name].reload_commit,
            previous=states[one.job.name].reloaded_commit,
        )
        for one in due
    ]
    runner = due[0].ctx.hooks
    if runner is None:
        return HookResult(problem="there is nothing to run hooks with")
    return runner.run(
        hook_state.build_call(hook, [one.job for one in due], reports, changes), deadline
    )


class UndoResult(Struct, frozen=True):
    """One job whose previous set was put back, or whose way back could not be gone to its end (`trouble`)."""

    verdict: HookFailedError
    left_alone: tuple[str, ...] = ()
    trouble: SyncdError | None = None


def _undo_where_asked(
    due: Sequence[DueReload], hook: Hook, end: HookResult
) -> dict[str, UndoResult]:
    """After a failure: the jobs with `undo_on_failure` that have a way back, each brought to what stood before."""
    undone = {}
    for one in due if end.status != 0 else ():
        verdict = hook_state.undo_verdict(
            hook, end, one.ctx.store.state(one.job.name).reload_commit or ""
        )
        if verdict is None:
            continue
        try:
            left = undo_change(one.job, one.ctx, one.report, verdict)
            if left is not None:
                undone[one.job.name] = UndoResult(verdict, left)
        except (MirrorError, StoreError) as trouble:
            undone[one.job.name] = UndoResult(verdict, trouble=trouble)
    return undone


def _withdrawn(one: DueReload, undone: UndoResult, again: HookFailedError | None) -> RunReport:
    """The job's commit is rejected and the previous set stands; the report that says so."""
    verdict, notes = undone.verdict, list(one.report.notes)
    if undone.trouble is not None:
        verdict = HookFailedError(
            f"{hook_state.first_line(verdict.message)}; but not all of it could be: {undone.trouble.message}",
            output=verdict.output,
            status=verdict.status,
            hint=undone.trouble.hint or "the next run goes on with it",
        )
    notes += [f"left alone, since it was edited: {path}" for path in undone.left_alone]
    notes += (
        [f"after that too, {hook_state.first_line(again.message)}"]
        if again is not None and undone.trouble is None
        else []
    )
    now = one.ctx.clock.now()
    if undone.trouble is None:
        status, state = (
            RunStatus.REFUSED,
            one.ctx.store.change_state(
                one.job.name, lambda state: hook_state.after_undo(state, verdict, again, now)
            ),
        )
    else:
        status, state = (
            RunStatus.FAILED,
            one.ctx.store.change_state(
                one.job.name,
                lambda state: hook_state.reload_failed_again(state, verdict, True, now),
            ),
        )
    return replace(
        one.report,
        status=status,
        error=verdict,
        commit=undone.verdict.commit,
        changes=(),
        bytes_written=0,
        files=state.files,
        reload_pending=state.reload_pending,
        notes=tuple(notes),
    )


def _settle(one: DueReload, hook: Hook, error: HookFailedError | None) -> RunReport:
    """The outcome is in the store; the report that says so."""
    job, ctx, report, now = one.job, one.ctx, one.report, one.ctx.clock.now()
    if error is None:
        before = ctx.store.state(job.name)
        ctx.store.change_state(job.name, lambda state: hook_state.reload_done(state, report, now))
        ran = (
            ("reloaded",)
            if report.status is RunStatus.CHANGED and before.reload_attempts == 0
            else (f"the owed on_change was run: {hook_state.shown_command(hook)}",)
        )
        return replace(report, reload_pending=False, notes=(*report.notes, *ran))
    failed = _blamed(report, error)
    own = report.error is None
    state = ctx.store.change_state(
        job.name, lambda state: hook_state.reload_failed_again(state, error, own, now)
    )
    if own:
        ctx.store.record(job.name, RunRecord(replace(failed, changes=()), state=state))
    return failed


def _blamed(report: RunReport, error: SyncdError) -> RunReport:
    """The report with the reload's error: as its own, or as a note beside the one it has."""
    if report.error is None:
        return replace(report, reload_pending=True, status=RunStatus.FAILED, error=error)
    return replace(
        report, reload_pending=True, notes=(*report.notes, hook_state.first_line(error.message))
    )
