"""One run of one job, from its first line to its last.

The daemon, the one-shot, `plan`, a push and a rollback all use this page. A run either applies the
whole set of one commit, or leaves everything as it was and says why (contract section 1). Deciding
is in `decision.py`, what the end means in `run_result.py`, and `reload.py` runs the pending reload
after it.
"""

from __future__ import annotations

import logging
import secrets
import time

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine import health, hook_call, hook_result, reload_state, run_result
from syncd.engine.apply import ApplyResult, apply_result, planned_changes, stage
from syncd.engine.commit_contents import CommitContents
from syncd.engine.commit_policy import accept
from syncd.engine.context import Options, RunContext, RunState
from syncd.engine.coverage import with_mounts
from syncd.engine.decision import Decision, decide
from syncd.engine.directories import directories_to_fix, wanted_directories
from syncd.engine.name_collisions import UnverifiedNames, try_names
from syncd.engine.recovery import recover
from syncd.engine.staging import staged_files
from syncd.engine.undo import resume_undo, save_undo
from syncd.errors import MirrorError, RemoteError, SyncdError
from syncd.models import CommitSummary, Job, Plan, RunReport, RunStatus
from syncd.ports import ApplyOutcome, HookResult, Intent, RunRecord
from syncd.progress import Step

LOG = logging.getLogger(__name__)
MAX_ATTEMPTS = 3  # how often a run plans again when files are edited while it works


def run_job(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> RunReport:
    """Run the job once, store the result, and return its report.

    After it the job is in sync with its repository, or nothing of it was changed and the report
    says why.
    """
    return Run(job, ctx, deadline, options).execute()


def plan_job(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> tuple[RunReport, Decision | None]:
    """Return what `run_job` would do now, as its report would say it.

    Writes nothing but caches, and takes no lock. The plan is also returned when a run would refuse
    it, for a limit or a rejected commit, and of a job that is paused or held.
    """
    began = time.perf_counter()
    options = replace(options, now=True)  # what waits is shown, and until when
    run = RunState(job, ctx, deadline, options, ctx.store.state(job.name))
    report, decision = _planned(run, run_result.first_report(run, ctx.clock.now()))
    return replace(report, seconds=time.perf_counter() - began), decision


def _planned(run: RunState, report: RunReport) -> tuple[RunReport, Decision | None]:
    on_hold = run.state.paused(run.ctx.clock.now())
    if on_hold:
        report = run_result.skipped(report, run.state)
    try:
        decision = decide(run)
        if decision.limit is None:
            # stages no file, but refuses the links now that a run would refuse
            stage(_contents(run, decision), Plan(()), decision.remote)
    except SyncdError as error:
        return run_result.with_error(report, error), None
    report = replace(
        run_result.with_owners(report, decision),
        status=RunStatus.CHANGED if decision.plan.changes_disk else RunStatus.UNCHANGED,
        commit=decision.commit,
        changes=planned_changes(decision.plan),
        files=decision.plan.files,
        drift_count=decision.plan.drift_count,
    )
    if decision.overrode is not None:
        report = run_result.with_waiting(report, decision.overrode)
    refused = decision.limit or decision.refusal
    if refused is not None:
        report = run_result.with_error(report, refused)
    if on_hold:
        report = replace(report, status=RunStatus.SKIPPED)
    return replace(report, commit_summary=_commit_summary(run, decision)), decision


def _commit_summary(run: RunState, decision: Decision) -> CommitSummary | None:
    """Return who made the commit and its subject, for one that is not applied yet.

    None when GitHub does not say: the plan is the same without it.
    """
    if decision.commit == run.state.applied_commit:
        return None
    try:
        return run.ctx.source.commit_summary(run.job.repo, decision.commit, run.deadline)
    except RemoteError as error:
        LOG.debug("%s: %s", run.job.name, error.message)
        return None


def _contents(run: RunState, decision: Decision) -> CommitContents:
    ctx = run.ctx
    return CommitContents(run.job, decision.commit, ctx.source, ctx.blobs, run.deadline)


class Run(RunState):
    """One execution of one job; `_run_steps` is its steps in order."""

    def __init__(self, job: Job, ctx: RunContext, deadline: Deadline, options: Options) -> None:
        self._began, started_at = time.perf_counter(), ctx.clock.now()
        super().__init__(job, ctx, deadline, options, ctx.store.state(job.name))
        self.report = run_result.first_report(self, started_at)
        self._started_at = started_at

    def execute(self) -> RunReport:
        """Run every step, store the result, and return its report.

        A failure of the job is in the report. Raises StoreError where the store can't be used.
        """
        if not self.is_rollback and self.state.paused(self._started_at):
            return self._timed(run_result.skipped(self.report, self.state))
        first_report = self.report
        try:
            result = self._run_steps()
        except SyncdError as error:
            try:
                # an error between intent and record: the disk says how far the plan came
                self.state = recover(self.job, self.ctx.store, self.ctx.mirror)
            except MirrorError:
                # the disk cannot be read now: the intent stays, so nothing is recorded that ends it
                return self._timed(replace(first_report, status=RunStatus.FAILED, error=error))
            result = run_result.failed_record(self, first_report, error)
        return self._record(result)

    def _run_steps(self) -> RunRecord:
        """Recover, decide, stage, validate, save what an undo needs, apply; plan again if files are
        edited meanwhile.
        """
        self._recover()
        state_before = self.state
        for attempt in range(1, MAX_ATTEMPTS + 1):
            decision = self._decide()
            self._judge_waiting(decision)
            if decision.only_waits and decision.waiting is not None:
                return run_result.waiting_record(self, self.report, decision.waiting)
            self._stage(decision)
            self._validate(decision)
            self._save_undo(decision)
            applied = self._apply(decision)
            if not applied.only_changed_underneath or attempt == MAX_ATTEMPTS:
                break
            self._record_progress(decision, applied)
        result = run_result.conclude(self, self.report, decision, applied)
        if result.report.error is None and not self.is_rollback and decision.waiting is None:
            result = accept(self, state_before, result)
        return result

    def _recover(self) -> None:
        """Finish what an interrupted run or undo left behind."""
        self.state = recover(self.job, self.ctx.store, self.ctx.mirror)
        self.state = resume_undo(self.job, self.ctx, self.state, self.report)

    def _decide(self) -> Decision:
        """Decide with everything in view: directories of syncd's that were locked are unlocked
        first.
        """
        decision = self._decide_once()
        while decision.needs_second_pass:
            self._unlock_directories(decision)
            decision = self._decide_once()
        return decision

    def _decide_once(self) -> Decision:
        """Decide. Raises LimitError when the decision may only be shown."""
        decision = decide(self)
        if decision.limit is not None:
            raise decision.limit
        return decision

    def _unlock_directories(self, decision: Decision) -> None:
        """Carry out a plan that only unlocks directories.

        Raises MirrorError when one stays locked.
        """
        self.deadline.check()
        applied = self._apply(replace(decision, recorded={}))
        if applied.error is not None:
            raise applied.error
        changes = (*self.report.changes, *applied.changes)
        self._record_progress(decision, applied)
        self.report = replace(self.report, changes=changes)

    def _judge_waiting(self, decision: Decision) -> None:
        """Stage and validate a commit that waits for a window of `apply:`, once, as if it were
        applied now.

        Raises as a run inside the window would.
        """
        if decision.overrode is not None:
            self.report = run_result.with_override(self.report, decision.overrode)
        known, waiting = self.state.waiting, decision.waiting
        if waiting is None or (known and known.is_same_commit(waiting)):
            return
        options = replace(self.options, now=True)
        ahead = decide(RunState(self.job, self.ctx, self.deadline, options, self.state))
        if ahead.limit is not None:
            raise ahead.limit
        report = self.report
        self._stage(ahead)
        self._validate(ahead)
        self.report = report

    def _stage(self, decision: Decision) -> None:
        """Fetch every byte that the plan writes, and check links and LFS pointers."""
        self.deadline.check()
        stage(_contents(self, decision), decision.plan, decision.remote)

    def _validate(self, decision: Decision) -> None:
        """Let the operator's `validate` command judge the complete set.

        Raises HookFailedError when it rejects the set; nothing has been written then. The time that
        the command takes is not counted as the run's.
        """
        hook = self.job.validate
        if hook is None or not decision.plan.changes_disk:
            return
        began = self.ctx.clock.monotonic()
        end = self._run_validate(decision)
        self.deadline.extend(self.ctx.clock.monotonic() - began)
        error = hook_result.validate_error(self.job, self.state, decision.commit, end, hook)
        if error is not None:
            raise error
        self.report = replace(self.report, notes=(*self.report.notes, "validated"))

    def _run_validate(self, decision: Decision) -> HookResult:
        job, ctx = self.job, self.ctx
        if job.validate is None or ctx.hooks is None:
            return HookResult(problem="there is nothing to run hooks with")
        self.deadline.progress.step(Step.VALIDATE, hook_result.shown_command(job.validate))
        report = replace(self.report, commit=decision.commit)
        changes = {job.name: planned_changes(decision.plan)}
        call = hook_call.build_call(job.validate, [job], [report], changes)
        files = staged_files(decision, ctx.blobs, ctx.mirror, job.limits.size_bytes)
        return ctx.hooks.validate(call, files, self.deadline)

    def _save_undo(self, decision: Decision) -> None:
        """Put what an undo of the change needs into the cache, and into the state.

        The change has to pass its health check from now on.
        """
        if not decision.plan.changes_disk:
            return
        if self.is_rollback:
            self.state = health.with_paused_check(self.state)
            return
        self.state = save_undo(self.job, self.ctx, self.state, decision)
        if decision.refusal is None:
            self.state = health.with_intended_check(self.job, self.state, decision.commit)

    def _apply(self, decision: Decision) -> ApplyResult:
        """Save the intent, then apply the plan: a crash repeats work, and never orphans a file."""
        applied = ApplyOutcome({})
        actions = decision.disk_actions
        if actions:
            intent = self._save_intent(decision)
            unverified = UnverifiedNames(self.job, decision.remote, decision.unverified)
            collision = try_names(unverified, actions, self.ctx.mirror, intent.id)
            if collision is not None:
                return ApplyResult(errors=(collision,))
            applied = self.ctx.mirror.apply(
                intent.id,
                actions,
                self.ctx.blobs,
                decision.folders,
                wanted_directories(decision.remote, decision.folders.union(intent.folders)),
                decision.kept,
            )
        result = apply_result(decision.plan, decision.recorded, decision.remote, applied)
        rows = decision.ledger.rows_to_record(result.upserts)
        return replace(result, upserts=with_mounts(rows, self.ctx.mirror))

    def _save_intent(self, decision: Decision) -> Intent:
        """Check that the plan can be applied, and store it.

        Raises MirrorError; nothing was changed then.
        """
        actions = decision.disk_actions
        self.ctx.mirror.check_replaceable_directories(actions, decision.folders)
        created = self.ctx.mirror.prepare(self.job, actions)
        intent = Intent(
            secrets.token_hex(6),
            self.job.name,
            decision.commit,
            self.job.digest,
            actions,
            created,
            self.job.on_change is not None,
            self.ctx.clock.now(),
            self.state.pending_reload is not None,
        )
        self.state = replace(self.state, applying=decision.commit)
        state = reload_state.with_intended_reload(self.job, self.state, self.report.started_at)
        to_fix = directories_to_fix(actions, created)
        self.ctx.store.begin_intent(intent, replace(state, directories_to_fix=to_fix))
        return intent

    def _record_progress(self, decision: Decision, applied: ApplyResult) -> None:
        """Store what the plan did so far. The run plans again from there."""
        record = run_result.progress_record(self, self.report, decision, applied)
        self.ctx.store.record(self.job.name, record)
        self.state = record.state
        self.report = run_result.with_owners(self.report, decision)

    def _record(self, result: RunRecord) -> RunReport:
        """Store the result with its times; return its report."""
        report = replace(self._timed(result.report), requests=self.deadline.request_count)
        state = run_result.with_times(result.state, report, self.ctx.clock.now())
        self.ctx.store.record(self.job.name, replace(result, report=report, state=state))
        return report

    def _timed(self, report: RunReport) -> RunReport:
        return replace(report, seconds=time.perf_counter() - self._began)


__all__ = ["Run", "plan_job", "run_job"]
