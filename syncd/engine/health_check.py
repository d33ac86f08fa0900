"""Go on with health windows: run the check that is due, and accept the change or take it back.

`health.py` decides; this runs the command, stores each result before anything follows from it, and
has the previous set put back. A window that was interrupted goes on where it was: the store has it.
The caller holds the jobs' locks. Nothing here asks GitHub.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine import health, hook_call, hook_result, rejection
from syncd.engine.context import RunContext
from syncd.engine.listing_version import with_known_listing
from syncd.engine.reload import DueReload, JobRun, take_back
from syncd.engine.undo import read_undo
from syncd.errors import HookFailedError, StoppedError, SyncdError
from syncd.models import Health, Job, RunReport, RunStatus, Trigger
from syncd.ports import CheckResult, HookResult, JobState, PendingHealth, RunRecord
from syncd.progress import Step

STOPPED = "syncd was stopped by a signal during the health check; the next run goes on with it"


class NextCheck(Struct, frozen=True):
    """The health of a change is not decided; the next check is due in so many seconds."""

    seconds: float


def window_report(job: Job, state: JobState, trigger: Trigger) -> RunReport:
    """Return the report of a job whose health window goes on, before its next check."""
    return RunReport(
        job.name,
        RunStatus.UNCHANGED,
        job.repo,
        job.ref,
        state.applied_commit,
        state.applied_commit,
        trigger=trigger,
        files=state.files,
        drift_count=state.drift_count,
        checking=True,
    )


def continue_check(one: JobRun, deadline: Deadline) -> RunReport | NextCheck | None:
    """Run the job's health check if it is due; return the report that ends the window, or when the
    next check is.

    None where no window is open: the job may run. Raises StoppedError, StoreError: nothing is
    decided then, and the next call goes on.
    """
    job, ctx = one.job, one.ctx
    if ctx is None:
        return None
    state, now = ctx.store.state(job.name), ctx.clock.now()
    if not state.checking or state.paused(now):
        return None
    job = with_known_listing(job, ctx)
    if job.health is None:  # removed from the configuration: the change counts like any other
        ctx.store.change_state(
            job.name, lambda state: health.without_check(state).with_condition(now)
        )
        return None
    judged = health.with_present_config(job, state, now)
    if judged is not state:
        state = ctx.store.change_state(
            job.name, lambda state: health.with_present_config(job, state, now)
        )
    if state.pending_health is None:
        return None
    due = DueReload(job, ctx, replace(one.report, started_at=now))
    return _Window(due, job.health, deadline).proceed(state.pending_health)


class _Window(Struct):
    """One step of a window: at most one check, and what follows from it."""

    one: DueReload
    health: Health
    deadline: Deadline
    end: HookResult = HookResult()

    def proceed(self, pending: PendingHealth) -> RunReport | NextCheck:
        """Run the check if it is due, and act on what all checks say."""
        verdict = health.decide(self.health, pending)
        if verdict is health.Verdict.UNDECIDED:
            wait = health.seconds_until_check(self.health, pending, self.one.now)
            if wait > 0:
                return NextCheck(wait)
            pending = self._checked(pending)
            verdict = health.decide(self.health, pending)
        if verdict is health.Verdict.HEALTHY:
            return self._accept(pending)
        if verdict is health.Verdict.UNHEALTHY:
            return self._take_back(pending)
        return NextCheck(health.seconds_until_check(self.health, pending, self.one.now))

    def _checked(self, pending: PendingHealth) -> PendingHealth:
        """Run the command, and store what it says."""
        began_at = self.one.now
        self.end = self._run()
        result = _result_of(self.end)
        reason = hook_result.describe_result(self.health.command, self.end, "timeout")
        after = health.after_check(self.health, pending, result, began_at, reason)
        self.one.ctx.store.change_state(
            self.one.name, lambda state: replace(state, pending_health=after)
        )
        return after

    def _run(self) -> HookResult:
        if self.deadline.stop.is_set():
            raise StoppedError(STOPPED)
        job, ctx, state = self.one.job, self.one.ctx, self.one.state
        if ctx.hooks is None:
            return HookResult(problem="there is nothing to run hooks with")
        report = replace(
            self.one.report, commit=state.applied_commit, previous=_previous(ctx, state)
        )
        call = hook_call.build_call(self.health.command, [job], [report], {})
        call = replace(call, timeout_seconds=self.health.timeout_seconds)
        return ctx.hooks.run(call, self.deadline)

    def _accept(self, pending: PendingHealth) -> RunReport:
        """Store that the change is healthy; return the report that says so."""
        now = self.one.now
        self.one.ctx.store.change_state(
            self.one.name,
            lambda state: health.without_check(state).after_success(now).with_condition(now),
        )
        note = f"healthy: {_passed(pending)} in {pending.seconds:.0f} s"
        return replace(self.one.report, checking=False, notes=(*self.one.report.notes, note))

    def _take_back(self, pending: PendingHealth) -> RunReport:
        """Put the previous set back, and reject the commit; return the report that says so."""
        ctx, state = self.one.ctx, self.one.state
        undo = read_undo(state, ctx.blobs)
        if undo is None:
            return self._reject_only(pending)
        verdict = self._verdict(pending, _live_again(undo.commit, pending.commit))
        one = replace(self.one, report=replace(self.one.report, previous=undo.commit))
        return take_back(one, verdict, self.deadline) or self._reject_only(pending)

    def _verdict(self, pending: PendingHealth, live: str) -> HookFailedError:
        reason = pending.reason or "no check has passed"
        if pending.failed >= self.health.failures:
            reason += f" ({pending.failed} in a row)"
        elif pending.passed == 0:
            reason += f" (no check has passed in {pending.seconds:.0f} s)"
        output = hook_result.shown_output(self.end.output)
        return hook_result.health_verdict(pending.commit, live, reason + output, self.end)

    def _reject_only(self, pending: PendingHealth) -> RunReport:
        """Reject a commit that stays, because the cache has lost what was there before it."""
        live = ", and it stays, because what was there before it is not in the cache any more"
        verdict, job, now = self._verdict(pending, live), self.one.job, self.one.now
        state = self.one.ctx.store.change_state(
            job.name,
            lambda state: (
                health.without_check(rejection.record_rejection(job, state, verdict))
                .after_failure(verdict)
                .with_condition(now)
            ),
        )
        report = replace(
            self.one.report,
            status=RunStatus.REFUSED,
            error=verdict,
            commit=pending.commit,
            changes=(),
            checking=False,
        )
        self.one.ctx.store.record(job.name, RunRecord(report, state=state))
        return report


def _live_again(commit: str | None, rejected: str) -> str:
    """Return what is in place again, as it follows "commit X is not healthy"."""
    if commit is None:
        return ", and what was there before it is back"
    if commit != rejected:
        return f", and commit {commit[:7]} was put back"
    return (
        " with the changed configuration of the job, and the files of the configuration before it "
        "were put back"
    )


def _result_of(end: HookResult) -> CheckResult:
    if end.problem is not None:
        return CheckResult.NOT_RUN
    return CheckResult.PASSED if end.status == 0 else CheckResult.FAILED


def _previous(ctx: RunContext, state: JobState) -> str | None:
    undo = read_undo(state, ctx.blobs)
    return None if undo is None else undo.commit


def _passed(pending: PendingHealth) -> str:
    return "1 check passed" if pending.passed == 1 else f"{pending.passed} checks passed"


# --- for a command that waits for the end of the window -------------------------------------------


def finish_window(one: JobRun, deadline: Deadline) -> RunReport | None:
    """Wait for the end of a window that an earlier run has left open; return the report that ended
    it, if one was open.

    Raises StoppedError, StoreError.
    """
    began, ended = deadline.clock.monotonic(), dict[str, RunReport]()
    _wait_for({one.job.name: one}, ended, deadline)
    deadline.extend(deadline.clock.monotonic() - began)
    return ended.get(one.job.name)


def with_ended_window(report: RunReport) -> RunReport:
    """Return the report of a one-shot with what the window that it ended first came to.

    A run that put a change back and applied nothing newer is refused: a fix that only waits is no
    success. In other runs, a note names what was put back.
    """
    window = report.ended_window
    if window is None or window.error is None:
        return report
    if report.error is None and report.waiting is not None:
        return replace(report, status=window.status, error=window.error, commit=window.commit)
    if report.error is not None and rejection.rejected_commit(report.error) == window.commit:
        return report
    note = f"before it, {hook_result.first_line(window.error.message)}"
    return replace(report, notes=(*report.notes, note))


def watch(
    members: Sequence[JobRun], reports: Sequence[RunReport], deadline: Deadline
) -> list[RunReport]:
    """Check the health of what these jobs changed until it is decided; return their reports, in
    order.
    """
    final = {report.job: report for report in reports}
    open_ = {
        member.job.name: replace(member, report=report)
        for member, report in zip(members, reports, strict=True)
        if report.checking and not report.reload_pending and report.error is None
    }
    try:
        _wait_for(open_, final, deadline)
    except SyncdError as error:
        for name in open_:
            final[name] = replace(final[name], status=RunStatus.FAILED, error=error)
    return [final[report.job] for report in reports]


def _wait_for(open_: dict[str, JobRun], ended: dict[str, RunReport], deadline: Deadline) -> None:
    """Run the checks of these jobs until no window is open.

    A window that is decided moves from `open_` to `ended`, as the report that ended it.
    """
    began, is_shown = deadline.clock.monotonic(), False
    while open_:
        waits = []
        for name, one in list(open_.items()):
            found = continue_check(one, deadline)
            if isinstance(found, NextCheck):
                waits.append(found.seconds)
                continue
            del open_[name]
            if found is not None:
                spent = deadline.clock.monotonic() - began
                ended[name] = replace(found, seconds=found.seconds + spent)
        if waits:
            if not is_shown:
                deadline.progress.step(Step.HEALTH, _commands(open_.values()))
            is_shown = True
            _wait(min(waits), deadline)


def _commands(waiting: Iterable[JobRun]) -> str:
    commands = {one.job.health.command for one in waiting if one.job.health is not None}
    return ", ".join(sorted(hook_result.shown_command(command) for command in commands))


def _wait(seconds: float, deadline: Deadline) -> None:
    if deadline.clock.wait(deadline.stop, seconds):
        raise StoppedError(STOPPED)


__all__ = [
    "NextCheck",
    "continue_check",
    "finish_window",
    "watch",
    "window_report",
    "with_ended_window",
]
