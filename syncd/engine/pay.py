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

from syncd.clock import Patience
from syncd.engine import hooks
from syncd.engine.ports import HookEnd, Result
from syncd.engine.run import House, Options, run_job
from syncd.engine.withdraw import withdraw
from syncd.errors import HookFailedError, MirrorError, StoppedError, StoreError, SyncdError
from syncd.models import Hook, Job, RunReport, RunStatus

Held = TypeVar("Held")


class Member(Struct, frozen=True):
    """One job after its run. `house` is None where the run could not begin."""

    job: Job
    house: House | None
    report: RunReport


class Gathering(Generic[Held]):
    """Where the jobs of one command meet: those that share an `on_change` are handed on together, when the last of them has arrived.

    Each brings what it holds meanwhile, such as its lock. Safe to use from many threads; nobody waits.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._guard = Lock()
        self._order = {job.name: place for place, job in enumerate(jobs)}
        self._missing = Counter(hooks.shared_key(job) for job in jobs)
        self._here: dict[object, list[tuple[Member, Held]]] = {}

    def arrive(self, member: Member, held: Held) -> list[tuple[Member, Held]]:
        """Those who can go on now: only this one when its job has no `on_change`; nobody yet; or, with the last of them, all, in the order of the jobs."""
        key = hooks.shared_key(member.job)
        if key is None:
            return [(member, held)]
        with self._guard:
            self._missing[key] -= 1
            self._here.setdefault(key, []).append((member, held))
            return [] if self._missing[key] else sorted(self._here.pop(key), key=lambda one: self._order[one[0].job.name])


class Due(Struct, frozen=True):
    """A job whose reload is to run now."""

    job: Job
    house: House
    report: RunReport


def run_and_pay(job: Job, house: House, patience: Patience, options: Options = Options()) -> RunReport:
    """One run with everything that belongs to it. The job's lock is held by the caller."""
    return pay([Member(job, house, run_job(job, house, patience, options))], patience)[0]


def pay(members: Sequence[Member], patience: Patience) -> list[RunReport]:
    """What the jobs owe is paid, by one run of the command that they share; the reports as they are then, in order."""
    began = time.perf_counter()
    reports = {member.job.name: _left_waiting(member) for member in members}
    due = [Due(member.job, member.house, member.report) for member in members if reports[member.job.name] is None and member.house is not None]
    paid = _pay(due, patience, began) if due else {}
    return [reports[member.job.name] or paid[member.job.name] for member in members]


def _left_waiting(member: Member) -> RunReport | None:
    """The report of a job that has nothing to pay now; None where the command is to run."""
    job, house, report = member.job, member.house, member.report
    if house is None or report.status is RunStatus.SKIPPED:
        return report
    state = house.store.state(job.name)
    if job.on_change is None or not hooks.is_due(job, state) or house.store.intent(job.name) is not None:
        return replace(report, hook_owed=state.hook_owed and job.on_change is not None)
    until = hooks.waits_until(state, report.trigger, report.status is RunStatus.CHANGED, house.clock.now())
    if until is None:
        return None
    return _blamed(report, hooks.still_owed(job.on_change, state, until))


def _pay(due: Sequence[Due], patience: Patience, began: float) -> dict[str, RunReport]:
    hook = due[0].job.on_change
    if hook is None:
        return {}
    try:
        end = _run(hook, due, patience)
        undone = _undo_where_asked(due, hook, end)
        whole = any(one.trouble is None for one in undone.values())
        error = hooks.reload_failed(hook, _run(hook, due, patience) if whole else end)
    except SyncdError as stopped:
        return {one.job.name: _blamed(one.report, stopped) for one in due}
    seconds = time.perf_counter() - began
    timed = (replace(one, report=replace(one.report, seconds=one.report.seconds + seconds)) for one in due)
    return {one.job.name: _withdrawn(one, undone[one.job.name], error) if one.job.name in undone else _settle(one, hook, error) for one in timed}


def _run(hook: Hook, due: Sequence[Due], patience: Patience) -> HookEnd:
    """The command has run for these jobs. Raises StoppedError, StoreError: nothing is known of it then, and it stays owed."""
    if patience.stop.is_set():
        raise StoppedError("stopped by a signal before on_change was run; it stays owed")
    states = {one.job.name: one.house.store.state(one.job.name) for one in due}
    changes = {one.job.name: one.house.store.changes_since(one.job.name, states[one.job.name].hook_since or one.house.clock.now()) for one in due}
    reports = [replace(one.report, commit=states[one.job.name].hook_commit, previous=states[one.job.name].hook_previous) for one in due]
    runner = due[0].house.hooks
    if runner is None:
        return HookEnd(problem="there is nothing to run hooks with")
    return runner.run(hooks.call_of(hook, [one.job for one in due], reports, changes), patience)


class Undone(Struct, frozen=True):
    """One job whose previous set was put back, or whose way back could not be gone to its end (`trouble`)."""

    verdict: HookFailedError
    left_alone: tuple[str, ...] = ()
    trouble: SyncdError | None = None


def _undo_where_asked(due: Sequence[Due], hook: Hook, end: HookEnd) -> dict[str, Undone]:
    """After a failure: the jobs with `undo_on_failure` that have a way back, each brought to what stood before."""
    undone = {}
    for one in due if end.status != 0 else ():
        verdict = hooks.withdrawing(hook, end, one.house.store.state(one.job.name).hook_commit or "")
        if verdict is None:
            continue
        try:
            left = withdraw(one.job, one.house, one.report, verdict)
            if left is not None:
                undone[one.job.name] = Undone(verdict, left)
        except (MirrorError, StoreError) as trouble:
            undone[one.job.name] = Undone(verdict, trouble=trouble)
    return undone


def _withdrawn(one: Due, undone: Undone, again: HookFailedError | None) -> RunReport:
    """The job's commit is rejected and the previous set stands; the report that says so."""
    verdict, notes = undone.verdict, list(one.report.notes)
    if undone.trouble is not None:
        verdict = HookFailedError(
            f"{hooks.first_line(verdict.message)}; but not all of it could be: {undone.trouble.message}", output=verdict.output, status=verdict.status,
            hint=undone.trouble.hint or "the next run goes on with it",
        )  # fmt: skip
    notes += [f"left alone, since it was edited: {path}" for path in undone.left_alone]
    notes += [f"after that too, {hooks.first_line(again.message)}"] if again is not None and undone.trouble is None else []
    now = one.house.clock.now()
    if undone.trouble is None:
        status, state = RunStatus.REFUSED, one.house.store.change_state(one.job.name, lambda state: hooks.withdrawn(state, verdict, again, now))
    else:
        status, state = RunStatus.FAILED, one.house.store.change_state(one.job.name, lambda state: hooks.failed_again(state, verdict, True, now))
    return replace(one.report, status=status, error=verdict, commit=undone.verdict.commit, changes=(), bytes_written=0, files=state.files, hook_owed=state.hook_owed, notes=tuple(notes))


def _settle(one: Due, hook: Hook, error: HookFailedError | None) -> RunReport:
    """The outcome is in the store; the report that says so."""
    job, house, report, now = one.job, one.house, one.report, one.house.clock.now()
    if error is None:
        before = house.store.state(job.name)
        house.store.change_state(job.name, lambda state: hooks.paid(state, report, now))
        ran = ("reloaded",) if report.status is RunStatus.CHANGED and before.hook_attempts == 0 else (f"the owed on_change was run: {hooks.named(hook)}",)
        return replace(report, hook_owed=False, notes=(*report.notes, *ran))
    failed = _blamed(report, error)
    own = report.error is None
    state = house.store.change_state(job.name, lambda state: hooks.failed_again(state, error, own, now))
    if own:
        house.store.record(job.name, Result(replace(failed, changes=()), state=state))
    return failed


def _blamed(report: RunReport, error: SyncdError) -> RunReport:
    """The report with the reload's error: as its own, or as a note beside the one it has."""
    if report.error is None:
        return replace(report, hook_owed=True, status=RunStatus.FAILED, error=error)
    return replace(report, hook_owed=True, notes=(*report.notes, hooks.first_line(error.message)))
