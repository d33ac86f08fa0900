"""What the end of a run means for its report and for the job's state.

Pure: no I/O. `run.py` does the work and stores what is returned here.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from syncd.apply_rules import Closed, WaitingCommit
from syncd.engine import health, rejection, reload_state
from syncd.engine.apply import ApplyResult
from syncd.engine.context import RunState
from syncd.engine.decision import Decision
from syncd.engine.desired import set_digest
from syncd.engine.directories import directories_to_fix
from syncd.engine.signature_policy import signers_digest
from syncd.errors import LimitError, StoppedError, SyncdError
from syncd.models import ActionKind, Plan, RunReport, RunStatus
from syncd.ports import JobState, Rejection, RunRecord


def first_report(run: RunState, started_at: datetime) -> RunReport:
    """Return the report of a run that has done nothing yet.

    A renamed job's report says which job it was.
    """
    notes: tuple[str, ...] = ()
    took_over_from: tuple[str, ...] = ()
    if run.ctx.renamed_from is not None:
        notes = (f"this is the job {run.ctx.renamed_from} under a new name",)
        took_over_from = (run.ctx.renamed_from,)
    return RunReport(
        run.job.name,
        RunStatus.UNCHANGED,
        run.job.repo,
        run.ref,
        None,
        run.state.applied_commit,
        trigger=run.options.trigger,
        started_at=started_at,
        notes=notes,
        took_over_from=took_over_from,
    )


def skipped(report: RunReport, state: JobState) -> RunReport:
    """Return the report of a held or paused job: no request, no write, no repair."""
    note = f"{state.describe_pause()}; syncd resume {report.job}"
    return replace(
        report,
        status=RunStatus.SKIPPED,
        commit=state.applied_commit,
        notes=(*report.notes, note),
    )


def with_owners(report: RunReport, decision: Decision) -> RunReport:
    """Return the report with the files that the job took over or handed over."""
    ledger = decision.ledger
    owners = tuple(dict.fromkeys([*report.took_over_from, *ledger.took_over_from]))
    return replace(report, notes=(*report.notes, *ledger.notes), took_over_from=owners)


def with_error(report: RunReport, error: SyncdError) -> RunReport:
    """Return the report with the error that ended the run: refused on purpose, or failed.

    The commit is named when it is the commit that was rejected.
    """
    rejected = rejection.rejected_commit(error)
    on_purpose = rejected is not None or isinstance(error, LimitError)
    status = RunStatus.REFUSED if on_purpose else RunStatus.FAILED
    return replace(report, status=status, error=error, commit=rejected or report.commit)


def conclude(
    run: RunState, report: RunReport, decision: Decision, result: ApplyResult
) -> RunRecord:
    """Return what to store of a run that applied its plan: the report, the rows and the job's
    state.
    """
    report = _applied_report(report, decision, result)
    error = result.error or decision.refusal
    state = _state_after(run, report, decision, result)
    if error is None:
        state = _with_applied_set(run, state, decision)
        state = health.without_check(state) if run.is_rollback else state
    else:
        report = with_error(report, error)
        finished = result.error is None
        state = replace(with_failure(state, error), consistent=finished and run.state.consistent)
    is_new_set = not run.is_rollback and error is None
    is_new_set &= _is_changed(report) or decision.commit != run.state.applied_commit
    report = replace(
        report,
        reload_pending=state.pending_reload is not None,
        checking=state.pending_health is not None,
    )
    return record_of(report, decision, result, state, applied=is_new_set)


def _applied_report(report: RunReport, decision: Decision, result: ApplyResult) -> RunReport:
    report = with_owners(report, decision)
    report = replace(report, changes=(*report.changes, *result.changes))
    report = replace(
        report,
        status=RunStatus.CHANGED if _is_changed(report) else RunStatus.UNCHANGED,
        commit=decision.commit,
        bytes_written=result.applied.bytes_written,
        notes=(*report.notes, *result.applied.notes),
        files=decision.plan.files,
        drift_count=decision.plan.drift_count - _repaired(decision.plan, result),
    )
    return report if decision.waiting is None else with_waiting(report, decision.waiting)


def with_waiting(report: RunReport, waiting: WaitingCommit) -> RunReport:
    """Return the report with the commit that waits.

    A run that repaired something besides is `changed`.
    """
    status = RunStatus.WAITING if report.status is RunStatus.UNCHANGED else report.status
    notes = (*report.notes, waiting.describe())
    return replace(report, status=status, waiting=waiting, notes=notes)


def with_override(report: RunReport, waiting: WaitingCommit) -> RunReport:
    """Return the report of a run that `--now` lets apply a commit that would have to wait."""
    overrode = Closed(waiting.until, waiting.reason).describe()
    note = f"applied with --now, which would have waited {overrode}"
    return replace(report, overrode=overrode, notes=(*report.notes, note))


def waiting_record(run: RunState, report: RunReport, waiting: WaitingCommit) -> RunRecord:
    """Return what to store of a run whose only commit waits: nothing was applied before it."""
    report = with_waiting(replace(report, files=run.state.files), waiting)
    return RunRecord(report, state=_with_waiting_commit(run, run.state, waiting))


def _with_waiting_commit(run: RunState, state: JobState, waiting: WaitingCommit | None) -> JobState:
    """Return the state with the commit that waits. One of `--ref` is not remembered: only the
    operator applies it.
    """
    return state if run.options.ref is not None else replace(state, waiting=waiting)


def _is_changed(report: RunReport) -> bool:
    """Return whether anything was changed: a file that a policy keeps was not."""
    return any(change.action is not ActionKind.KEEP for change in report.changes)


def _repaired(plan: Plan, result: ApplyResult) -> int:
    """Count the drift that this run put back, which is not drift any more."""
    failed = {error.path for error in result.errors}
    return sum(
        action.is_drift
        for action in plan.actions
        if action.kind is not ActionKind.KEEP and action.path not in failed
    )


def _state_after(
    run: RunState, report: RunReport, decision: Decision, result: ApplyResult
) -> JobState:
    """Return the job's state as far as it is the same after a success and after a failure."""
    state, job = run.state, run.job
    if _is_changed(report) or job.on_change is None or decision.ledger.reload_pending:
        state = reload_state.require_reload(job, state, report.started_at)
    commit = decision.commit if result.error is None else None
    state = _with_waiting_commit(run, state, decision.waiting)
    return replace(
        reload_state.with_reload_commit(state, commit),
        drift_count=report.drift_count,
        held=run.state.held or run.is_rollback,
        directories_to_fix=_still_to_fix(decision, result),
    )


def _with_applied_set(run: RunState, state: JobState, decision: Decision) -> JobState:
    """Return the state of a job whose whole set is in place: its commit, its configuration, its
    files.
    """
    return replace(
        health.with_whole_set(run.job, state, decision.commit),
        rejection=_rejection_after(run, decision),
        applying=None,
        consistent=True,
        applied_commit=decision.commit,
        applied_config_digest=decision.config_digest,
        files=len(decision.remote),
        applied_files_digest=set_digest(decision.remote),
    )


def _rejection_after(run: RunState, decision: Decision) -> Rejection | None:
    """Return the rejection that is left after a set was applied: none after a commit of the job's
    ref.

    A commit that waits, one of `--ref` and a rollback leave it: the ref may come back to the
    rejected commit.
    """
    known, asked_ref = run.state.rejection, run.options.ref is not None
    if known is None or decision.waiting is not None or run.is_rollback:
        return known
    return known if asked_ref and known.commit != decision.commit else None


def _still_to_fix(decision: Decision, result: ApplyResult) -> tuple[str, ...]:
    """Return the directories that are not yet as the set asks; none after a run without an
    error.
    """
    if result.error is None:
        return ()
    outcomes = result.applied.outcomes
    failed = [
        action
        for action in decision.plan.of(ActionKind.MODE)
        if action.path in outcomes and outcomes[action.path].error is not None
    ]
    return directories_to_fix(failed, result.applied.directories_created)


def progress_record(
    run: RunState, report: RunReport, decision: Decision, result: ApplyResult
) -> RunRecord:
    """Return what to store before the run plans again: what the plan did until it could not go
    on.
    """
    state = run.state
    if result.changes:
        state = reload_state.require_reload(run.job, state, report.started_at)
    state = replace(
        reload_state.with_reload_commit(state, None),
        consistent=False,
        directories_to_fix=_still_to_fix(decision, result),
    )
    partial = replace(report, status=RunStatus.UNCHANGED, commit=decision.commit, changes=())
    if result.error is not None:  # else the run's own report will name the changes
        partial = replace(
            partial, status=RunStatus.FAILED, changes=result.changes, error=result.error
        )
    return record_of(partial, decision, result, state)


def record_of(
    report: RunReport,
    decision: Decision,
    result: ApplyResult,
    state: JobState,
    applied: bool = False,
) -> RunRecord:
    """Return what the store keeps of a run.

    `applied`: the whole set is in place and is kept as one of the job's sets.
    """
    ledger = decision.ledger
    return RunRecord(
        report,
        result.upserts,
        result.removals,
        (*ledger.directories_acquired, *result.applied.directories_created),
        result.applied.directories_removed,
        state,
        applied,
        superseded=ledger.superseded,
        handed_over=ledger.handed_over,
        directories_reassigned=ledger.directories_reassigned,
        ledger=decision.recorded,
    )


def failed_record(run: RunState, report: RunReport, error: SyncdError) -> RunRecord:
    """Return what to store of a run that an error ended before its end."""
    report = replace(
        with_error(report, error),
        files=run.state.files,
        drift_count=run.state.drift_count,
        reload_pending=run.state.pending_reload is not None,
    )
    state = rejection.record_rejection(run.job, run.state, error, signers_digest(run))
    return RunRecord(report, state=with_failure(state, error))


def with_failure(state: JobState, error: SyncdError) -> JobState:
    """Return the state after a failure.

    A run that a signal stopped has not failed: its state stays.
    """
    if isinstance(error, StoppedError):
        return state
    return state.after_failure(error)


def with_times(state: JobState, report: RunReport, now: datetime) -> JobState:
    """Return the state with the times of this run.

    A run that a signal stopped still has to run. A run is no success before its pending reload and
    its health check are.
    """
    if isinstance(report.error, StoppedError):
        return state
    state = replace(state, last_run_at=now)
    if report.status not in (RunStatus.FAILED, RunStatus.REFUSED):
        if report.status is RunStatus.CHANGED:
            state = replace(state, last_change_at=now)
        if state.pending_reload is not None:
            return state  # its condition follows from the reload, which comes next
        state = health.succeeded(state, now)
    return state.with_condition(now)


__all__ = [
    "conclude",
    "failed_record",
    "first_report",
    "progress_record",
    "record_of",
    "skipped",
    "waiting_record",
    "with_error",
    "with_failure",
    "with_override",
    "with_owners",
    "with_times",
]
