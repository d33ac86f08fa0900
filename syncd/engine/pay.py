"""Pays what a run owes: `on_change` after all files are in place, once for all jobs that share the command, until it succeeds.

The debt itself is in the store since the intent; this only runs the command and says what came of it. The caller holds the jobs' locks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Generic, TypeVar

from syncd.clock import Patience
from syncd.engine import hooks
from syncd.engine.ports import HookEnd, Result
from syncd.engine.run import House, Options, run_job
from syncd.errors import HookFailedError, StoppedError, SyncdError
from syncd.models import Hook, Job, RunReport, RunStatus

Held = TypeVar("Held")


@dataclass(frozen=True)
class Member:
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
        self._missing = Counter(hooks.shared_key(job) for job in jobs)
        self._here: dict[object, list[tuple[Member, Held]]] = {}

    def arrive(self, member: Member, held: Held) -> list[tuple[Member, Held]]:
        """Those who can go on now: only this one when its job has no `on_change`; nobody yet; or, with the last of them, all."""
        key = hooks.shared_key(member.job)
        if key is None:
            return [(member, held)]
        with self._guard:
            self._missing[key] -= 1
            self._here.setdefault(key, []).append((member, held))
            return self._here.pop(key) if self._missing[key] == 0 else []


@dataclass(frozen=True)
class Due:
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
        error = _run(hook, due, patience)
    except SyncdError as stopped:
        return {one.job.name: _blamed(one.report, stopped) for one in due}
    seconds = time.perf_counter() - began
    return {one.job.name: _settle(replace(one, report=replace(one.report, seconds=one.report.seconds + seconds)), hook, error) for one in due}


def _run(hook: Hook, due: Sequence[Due], patience: Patience) -> HookFailedError | None:
    """The command has run for these jobs; its failure. Raises StoppedError, StoreError: nothing is known of it then, and it stays owed."""
    if patience.stop.is_set():
        raise StoppedError("stopped by a signal before on_change was run; it stays owed")
    states = {one.job.name: one.house.store.state(one.job.name) for one in due}
    changes = {one.job.name: one.house.store.changes_since(one.job.name, states[one.job.name].hook_since or one.house.clock.now()) for one in due}
    reports = [replace(one.report, commit=states[one.job.name].hook_commit) for one in due]
    runner = due[0].house.hooks
    end = runner.run(hooks.call_of(hook, [one.job for one in due], reports, changes), patience) if runner is not None else HookEnd(problem="there is nothing to run hooks with")
    return hooks.reload_failed(hook, end)


def _settle(one: Due, hook: Hook, error: HookFailedError | None) -> RunReport:
    """The outcome is in the store; the report that says so."""
    job, house, report, now = one.job, one.house, one.report, one.house.clock.now()
    if error is None:
        before = house.store.state(job.name)
        house.store.change_state(job.name, lambda state: hooks.paid(state, report, now))
        ran = () if report.status is RunStatus.CHANGED and before.hook_attempts == 0 else (f"the owed on_change was run: {hook.text}",)
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
    return replace(report, hook_owed=True, notes=(*report.notes, error.message.split("\n")[0]))
