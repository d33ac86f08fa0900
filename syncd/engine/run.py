"""One run of one job, first line to last. Daemon, one-shot, plan, push and rollback are doors to this page.

Promises contract section 1: a run either brings the whole set of one commit, or leaves what stood and says why.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Set
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Clock
from syncd.colliding_names import CollidingNames
from syncd.deadline import Deadline
from syncd.engine import hook_state
from syncd.engine.apply import ApplyResult as Walked
from syncd.engine.apply import apply_plan, as_change, stage
from syncd.engine.claims import claim, recognise
from syncd.engine.commit_policy import accept, check_required
from syncd.engine.coverage import with_mounts
from syncd.engine.desired import desired, expected_size, max_listed, set_digest
from syncd.engine.directories import (
    OwnedDirectories,
    directories_to_fix,
    directory_targets,
    unlocking_actions,
    wanted_directories,
)
from syncd.engine.job_ledger import JobLedger
from syncd.engine.lfs import with_contents
from syncd.engine.name_collisions import refuse_collisions, try_names
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.owners import ResolveOwner, has_unnamed_owner, with_current_ids
from syncd.engine.plan import make_plan
from syncd.engine.prefetch import Prefetch
from syncd.engine.protection import exclude_protected
from syncd.engine.recovery import recover
from syncd.engine.special_files import refuse_special_files
from syncd.engine.staging import staged_files
from syncd.engine.undo import resume_undo, save_undo
from syncd.errors import (
    HookFailedError,
    LimitError,
    MirrorError,
    StoppedError,
    SyncdError,
    UntrustedError,
)
from syncd.models import (
    ActionKind,
    Job,
    LedgerRow,
    Lfs,
    LocalFile,
    Ownership,
    Plan,
    RunReport,
    RunStatus,
    Trigger,
    WantedFile,
)
from syncd.ports import (
    NO_INODES,
    AppliedSet,
    Blobs,
    Head,
    HookResult,
    Hooks,
    Inodes,
    Intent,
    JobState,
    Mirror,
    RunRecord,
    Source,
    Store,
    Target,
)
from syncd.protected_paths import ProtectedPaths

MAX_ATTEMPTS = 3  # how often a run plans anew when somebody edits files under it


class RunContext(Struct, frozen=True):
    """What a run works with. `scope` names (host, identity): heads are remembered under it; `jobs` are all configured job names."""

    source: Source
    store: Store
    mirror: Mirror
    blobs: Blobs
    clock: Clock
    resolve_owner: ResolveOwner
    scope: str
    jobs: frozenset[str]
    hooks: Hooks | None = None
    others: OtherJobs | None = None  # what the other jobs list; None: each lists all that it has
    renamed_from: str | None = None  # the removed job that this one is under a new name
    protected: ProtectedPaths = ProtectedPaths()


class Options(Struct, frozen=True):
    """What a hand asked of this run only. `rollback_set`: this set again, whatever the repository has, and then the job is held.

    `pushed`: the spellings (`heads/v1`) of refs that were pushed since the last run.
    """

    trigger: Trigger = Trigger.OPERATOR
    ref: str | None = None
    allow_delete: int | None = None
    rollback_set: AppliedSet | None = None
    pushed: frozenset[str] = frozenset()


class Decision(Struct, frozen=True):
    """A commit, what it wants, and the plan that follows: the dry run is printing this.

    With a `refusal` the head is a commit that was rejected, and this is about the last accepted set instead. `folders` are those that
    syncd made for the job. `kept` are the files of the set that no action touches, where the plan removes others.
    """

    commit: str
    remote: Mapping[str, WantedFile]
    recorded: Mapping[str, LedgerRow]
    plan: Plan
    ownership: JobLedger
    kept: Inodes = NO_INODES
    refusal: HookFailedError | UntrustedError | None = None
    folders: frozenset[str] = frozenset()
    unverified: tuple[
        CollidingNames, ...
    ] = ()  # names that the disk may take for one: a trial tells, before they are written
    needs_second_pass: bool = False  # a folder of ours has been shut, and this only opens it: then there is more to see, and to decide


def run_job(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> RunReport:
    """The job is in sync with its repository, or nothing of it was changed and the report says why. Never raises a SyncdError."""
    began, started_at = time.perf_counter(), ctx.clock.now()
    state = ctx.store.state(job.name)
    report = RunReport(
        job.name,
        RunStatus.UNCHANGED,
        job.repo,
        options.ref or job.ref,
        None,
        state.applied_commit,
        trigger=options.trigger,
        started_at=started_at,
    )
    report = _renamed(report, ctx)
    if options.rollback_set is None and state.paused(started_at):
        return _left_alone(report, state, began)
    try:
        state = resume_undo(job, ctx, recover(job, ctx.store, ctx.mirror), report)
        report, result = _bring(job, ctx, deadline, options, state, report)
        if report.error is None and options.rollback_set is None:
            report, result = accept(job, ctx.store, state, report, result, options.ref)
    except SyncdError as error:
        try:
            state = recover(
                job, ctx.store, ctx.mirror
            )  # an error between intent and record: the disk says how far it came
        except MirrorError:  # the disk can't be asked now: the intent stays, and so nothing may be recorded that would end it
            return replace(
                report, status=RunStatus.FAILED, error=error, seconds=time.perf_counter() - began
            )
        report = replace(
            _refusing(report, error),
            files=state.files,
            drift_count=state.drifted,
            reload_pending=state.reload_pending,
        )
        result = RunRecord(
            report, state=_failed(hook_state.record_rejection(job, state, error), error)
        )
    report = replace(report, seconds=time.perf_counter() - began, requests=deadline.request_count)
    ctx.store.record(
        job.name, replace(result, report=report, state=_times(result.state, report, ctx.clock))
    )
    return report


def _renamed(report: RunReport, ctx: RunContext) -> RunReport:
    """The report of a job that was another one's before says whose."""
    if ctx.renamed_from is None:
        return report
    note = f"this is the job {ctx.renamed_from} under a new name"
    return replace(report, notes=(note,), took_over_from=(ctx.renamed_from,))


def plan_job(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options = Options()
) -> tuple[RunReport, Decision | None]:
    """What `run_job` would do now, as its report would name it. Writes nothing but caches, and takes no lock."""
    began, state = time.perf_counter(), ctx.store.state(job.name)
    report = RunReport(
        job.name,
        RunStatus.UNCHANGED,
        job.repo,
        options.ref or job.ref,
        None,
        state.applied_commit,
        trigger=options.trigger,
        started_at=ctx.clock.now(),
    )
    report = _renamed(report, ctx)
    if state.paused(ctx.clock.now()):
        return _left_alone(report, state, began), None
    try:
        decision = decide(job, ctx, deadline, options, state)
        stage(
            job, decision.commit, Plan(()), decision.remote, ctx.source, ctx.blobs, deadline
        )  # links: refused now as they would be then
    except SyncdError as error:
        return replace(_refusing(report, error), seconds=time.perf_counter() - began), None
    report = _with_owners(report, decision)
    changes = tuple(as_change(action) for action in decision.plan.actions if action.kind.is_public)
    status = RunStatus.CHANGED if decision.plan.changes_disk else RunStatus.UNCHANGED
    report = replace(
        report,
        status=status,
        commit=decision.commit,
        changes=changes,
        files=decision.plan.files,
        drift_count=decision.plan.drift_count,
    )
    report = report if decision.refusal is None else _refusing(report, decision.refusal)
    return replace(report, seconds=time.perf_counter() - began), decision


def decide(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options, state: JobState
) -> Decision:
    """Resolve the ref once, list what it holds, look at the disk, and choose. Every later read of the run names this commit."""
    known = _known_head(
        job, ctx, options
    )  # before the ledger is read, which would hold up the request
    with Prefetch(job.name, ctx.store, ctx.mirror, deadline.check) as ahead:
        wanted = _wanted(job, ctx, deadline, options, state, ahead, known)
        unverified = refuse_collisions(job, wanted.remote, ctx.mirror)
        remote, own = wanted.remote, JobLedger(wanted.recorded, {}, folders=ahead.folders())
        own = exclude_protected(
            job, ctx.protected, ctx.mirror, remote, claim(job, ctx, deadline, remote, own)
        )
        folders = OwnedDirectories.of(remote, own.recorded, own.folders, state)
        local = ahead.scan(_targets(remote, own.recorded) | directory_targets(folders.wanted))
    before, own = own, recognise(job, ctx, deadline, remote, own, local)
    if own.recorded.keys() != before.recorded.keys():
        folders = OwnedDirectories.of(remote, own.recorded, own.folders, state)
        local = ctx.mirror.scan(
            _targets(remote, own.recorded) | directory_targets(folders.wanted), deadline.check
        )
    shut = unlocking_actions(job, folders, local)
    if not shut:
        _refuse_unseen(job, own.recorded.keys() - remote.keys(), local)
    allow_delete = options.allow_delete
    if options.rollback_set is not None:
        allow_delete = len(own.recorded)  # this set was applied before, whole: there is no doubt
    plan = (
        Plan(shut, len(remote))
        if shut
        else make_plan(job, remote, own.recorded, local, allow_delete, folders)
    )
    refuse_special_files(plan)
    ctx.mirror.check_replaceable_directories(plan.actions, own.folders)
    kept = _kept(remote, local) if plan.of(ActionKind.REMOVE) else NO_INODES
    return Decision(
        wanted.commit,
        remote,
        own.recorded,
        plan,
        own,
        kept,
        wanted.refusal,
        own.folders,
        () if shut else unverified,
        needs_second_pass=bool(shut),
    )


class WantedSet(Struct, frozen=True):
    """The commit to bring, the set it asks for, and the rows that the set is compared with."""

    commit: str
    remote: Mapping[str, WantedFile]
    recorded: Mapping[str, LedgerRow]
    refusal: HookFailedError | UntrustedError | None = None


class Ledger(Protocol):
    def recorded(self) -> dict[str, LedgerRow]: ...


class StoredLedger:
    """A job's ledger, read when it is asked for."""

    def __init__(self, store: Store, job: str) -> None:
        self._store, self._job = store, job

    def recorded(self) -> dict[str, LedgerRow]:
        return self._store.load_ledger(self._job)


def wanted_set(job: Job, ctx: RunContext, deadline: Deadline) -> Mapping[str, WantedFile]:
    """What the job wants now, by its repository or, after a rejection, by what was accepted last."""
    state, ledger = ctx.store.state(job.name), StoredLedger(ctx.store, job.name)
    return _wanted(
        job, ctx, deadline, Options(), state, ledger, _known_head(job, ctx, Options())
    ).remote


def _wanted(
    job: Job,
    ctx: RunContext,
    deadline: Deadline,
    options: Options,
    state: JobState,
    ledger: Ledger,
    known: Head | None,
) -> WantedSet:
    if options.rollback_set is not None:
        remote = with_current_ids(options.rollback_set.files, ctx.resolve_owner)
        return WantedSet(options.rollback_set.commit, remote, ledger.recorded())
    head = _head(job, ctx, deadline, options, known)
    refusal = hook_state.rejection(job, state, head.commit)
    if isinstance(refusal, UntrustedError) and options.ref is not None:
        refusal = None  # the operator names the commit: it is judged anew
    if refusal is None:
        check_required(job, head.commit, state, options.ref, ctx.source, deadline)
        remote = _remembered(job, ctx, head, state, ledger) or _listed(
            job, ctx, deadline, head, state, ledger
        )
        return WantedSet(head.commit, remote, ledger.recorded())
    recorded = {
        path: row
        for path, row in ledger.recorded().items()
        if row.ownership is not Ownership.UNLISTED
    }
    remote = with_current_ids(_accepted(recorded, refusal), ctx.resolve_owner)
    return WantedSet(state.applied_commit or head.commit, remote, recorded, refusal)


def _targets(
    remote: Mapping[str, WantedFile], recorded: Mapping[str, LedgerRow]
) -> dict[str, Target]:
    roots = {path: row.entry.root for path, row in recorded.items()}
    roots |= {path: entry.root for path, entry in remote.items()}
    return {
        path: Target(
            root, recorded.get(path), size=expected_size(remote.get(path), recorded.get(path))
        )
        for path, root in roots.items()
    }


def _kept(remote: Mapping[str, WantedFile], local: Mapping[str, LocalFile | None]) -> Inodes:
    """The files of the set that exist, by inode: no removal may take one away."""
    found = ((path, local.get(path)) for path in remote)
    return {(have.stat.device, have.stat.inode): path for path, have in found if have is not None}


def _refuse_unseen(job: Job, dropped: Set[str], local: Mapping[str, LocalFile | None]) -> None:
    """Raises MirrorError for a place that can't be looked at, or that a link or file of somebody else's leads away from."""
    for path, have in local.items():
        if have is not None and have.problem is not None:
            left = (
                f"to leave what the job wrote there before and begin anew: syncd sync {job.name} --forget {job.name}"
                if path in dropped
                else None
            )
            raise MirrorError(have.problem, path=path, hint=left or have.hint)


def _known_head(job: Job, ctx: RunContext, options: Options) -> Head | None:
    """What the store knows of the ref that a run is about."""
    return (
        ctx.store.head(ctx.scope, job.repo, options.ref or job.ref)
        if options.rollback_set is None
        else None
    )


def _head(
    job: Job, ctx: RunContext, deadline: Deadline, options: Options, known: Head | None
) -> Head:
    ref = options.ref or job.ref
    doubtful = known is not None and known.form is not None and bool(options.pushed - {known.form})
    asked = replace(known, checked_at=None) if known is not None and doubtful else known
    head = ctx.source.resolve(job.repo, ref, asked, deadline)
    seen = replace(head, unchanged=False)
    if seen != known:
        ctx.store.save_head(ctx.scope, job.repo, ref, seen)
    return head


def _bring(
    job: Job,
    ctx: RunContext,
    deadline: Deadline,
    options: Options,
    state: JobState,
    report: RunReport,
) -> tuple[RunReport, RunRecord]:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        decision, state, report = _decided(job, ctx, deadline, options, state, report)
        deadline.check()
        stage(job, decision.commit, decision.plan, decision.remote, ctx.source, ctx.blobs, deadline)
        report = _ask_validate(job, ctx, deadline, decision, state, report)
        if decision.plan.changes_disk:
            state = hook_state.mark_reload_needed(job, state, report.started_at)
            state = (
                state
                if options.rollback_set
                else save_undo(
                    job,
                    ctx,
                    state,
                    decision.commit,
                    decision.plan,
                    decision.remote,
                    decision.ownership.own_rows,
                )
            )
        walked = _carry_out(job, ctx, decision, state)
        if not walked.only_changed_underneath or attempt == MAX_ATTEMPTS:
            break
        state = _save_progress(job, ctx, report, walked, decision, state)
        report = _with_owners(report, decision)
    return _conclude(job, report, decision, walked, state, options.rollback_set)


def _decided(
    job: Job,
    ctx: RunContext,
    deadline: Deadline,
    options: Options,
    state: JobState,
    report: RunReport,
) -> tuple[Decision, JobState, RunReport]:
    """What is to be done, seen whole: folders of ours that somebody has shut are opened first, which the report then names."""
    decision = decide(job, ctx, deadline, options, state)
    while decision.needs_second_pass:
        deadline.check()
        walked = _carry_out(
            job,
            ctx,
            replace(decision, recorded={}),
            hook_state.mark_reload_needed(job, state, report.started_at),
        )
        if walked.error is not None:
            raise walked.error
        state = _save_progress(job, ctx, report, walked, decision, state)
        report = replace(_with_owners(report, decision), changes=(*report.changes, *walked.changes))
        decision = decide(job, ctx, deadline, options, state)
    return decision, state, report


def _ask_validate(
    job: Job,
    ctx: RunContext,
    deadline: Deadline,
    decision: Decision,
    state: JobState,
    report: RunReport,
) -> RunReport:
    """The operator's veto on the complete set. Raises HookFailedError; nothing has been written then. The time it takes is not the run's."""
    if job.validate is None or not decision.plan.changes_disk:
        return report
    changes = tuple(as_change(action) for action in decision.plan.actions if action.kind.is_public)
    call = hook_state.build_call(
        job.validate, [job], [replace(report, commit=decision.commit)], {job.name: changes}
    )
    files = staged_files(
        decision.plan,
        decision.remote,
        decision.recorded,
        ctx.blobs,
        ctx.mirror,
        job.limits.size_bytes,
    )
    began = ctx.clock.monotonic()
    end = (
        ctx.hooks.validate(call, files, deadline)
        if ctx.hooks is not None
        else HookResult(problem="there is nothing to run hooks with")
    )
    deadline.extend(ctx.clock.monotonic() - began)
    error = hook_state.validate_error(job, state, decision.commit, end, job.validate)
    if error is not None:
        raise error
    return replace(report, notes=(*report.notes, "validated"))


def _carry_out(job: Job, ctx: RunContext, decision: Decision, state: JobState) -> Walked:
    """The plan is applied, its intent noted first: a crash repeats work, it never orphans a file."""
    intent_id = secrets.token_hex(6)
    steps = tuple(action for action in decision.plan.actions if action.kind.touches_disk)
    looks: Mapping[str, WantedFile] = {}
    if steps:
        ctx.mirror.check_replaceable_directories(steps, decision.folders)
        made = ctx.mirror.prepare(job, steps)
        looks = wanted_directories(decision.remote, decision.folders.union(made))
        intended = replace(state, directories_to_fix=directories_to_fix(steps, made))
        ctx.store.begin_intent(
            Intent(
                intent_id,
                job.name,
                decision.commit,
                job.digest,
                steps,
                made,
                job.on_change is not None,
                ctx.clock.now(),
                state.reload_pending,
            ),
            intended,
        )
        merged = try_names(job, decision.unverified, steps, decision.remote, ctx.mirror, intent_id)
        if merged is not None:
            return Walked(errors=(merged,))
    walked = apply_plan(
        intent_id,
        decision.plan,
        decision.recorded,
        decision.remote,
        ctx.mirror,
        ctx.blobs,
        decision.folders,
        looks,
        decision.kept,
    )
    rows = decision.ownership.rows_to_record(walked.upserts)
    return replace(walked, upserts=with_mounts(rows, ctx.mirror))


def _with_owners(report: RunReport, decision: Decision) -> RunReport:
    """The report with what changed hands."""
    own = decision.ownership
    owners = tuple(dict.fromkeys([*report.took_over_from, *own.took_over_from]))
    return replace(report, notes=(*report.notes, *own.notes), took_over_from=owners)


def _conclude(
    job: Job,
    report: RunReport,
    decision: Decision,
    walked: Walked,
    state: JobState,
    rollback_set: AppliedSet | None,
) -> tuple[RunReport, RunRecord]:
    report = _with_owners(report, decision)
    changes = (*report.changes, *walked.changes)
    changed = any(change.action is not ActionKind.KEEP for change in changes)
    report = replace(
        report,
        status=RunStatus.CHANGED if changed else RunStatus.UNCHANGED,
        commit=decision.commit,
        changes=changes,
        bytes_written=walked.applied.bytes_written,
        notes=(*report.notes, *walked.applied.notes),
        files=decision.plan.files,
        drift_count=decision.plan.drift_count - _repaired(decision.plan, walked),
    )
    whole, error = walked.error is None, walked.error or decision.refusal
    after = (
        hook_state.require_reload(job, state, report.started_at)
        if changed or job.on_change is None or decision.ownership.reload_pending
        else state
    )
    after = replace(
        after,
        drifted=report.drift_count,
        reload_commit=decision.commit if whole and after.reload_pending else None,
        held=state.held or rollback_set is not None,
    )
    after = replace(after, directories_to_fix=_folders_waiting(decision, walked))
    if error is None:
        digest = rollback_set.digest if rollback_set is not None else job.digest
        after = replace(
            hook_state.clear_rejection(after),
            consistent=True,
            applied_commit=decision.commit,
            applied_config_digest=digest,
            files=len(decision.remote),
            applied_files_digest=set_digest(decision.remote),
        )
    else:
        report = _refusing(report, error)
        after = replace(_failed(after, error), consistent=whole and state.consistent)
    applied = (
        rollback_set is None
        and error is None
        and (changed or decision.commit != state.applied_commit)
    )
    report = replace(report, reload_pending=after.reload_pending)
    return report, _recorded(report, decision, walked, after, applied)


def _recorded(
    report: RunReport, decision: Decision, walked: Walked, state: JobState, applied: bool = False
) -> RunRecord:
    """What the store keeps of the run."""
    own = decision.ownership
    made, gone = (
        (*own.directories_acquired, *walked.applied.directories_created),
        walked.applied.directories_removed,
    )
    return RunRecord(
        report,
        walked.upserts,
        walked.removals,
        made,
        gone,
        state,
        applied,
        superseded=own.superseded,
        handed_over=own.handed_over,
        directories_reassigned=own.directories_reassigned,
        ledger=decision.recorded,
    )


def _folders_waiting(decision: Decision, walked: Walked) -> tuple[str, ...]:
    """Folders that are not yet as the set asks; none after a run that went well."""
    if walked.error is None:
        return ()
    outcomes = walked.applied.outcomes
    return directories_to_fix(
        [
            step
            for step in decision.plan.of(ActionKind.MODE)
            if step.path in outcomes and outcomes[step.path].error is not None
        ],
        walked.applied.directories_created,
    )


def _accepted(
    recorded: Mapping[str, LedgerRow], refusal: HookFailedError | UntrustedError
) -> dict[str, WantedFile]:
    """The set that stands instead of a rejected commit: what the ledger says. Raises the refusal when nothing was ever accepted."""
    if not recorded:
        raise refusal
    return {path: row.upstream for path, row in recorded.items()}


def _remembered(
    job: Job, ctx: RunContext, head: Head, state: JobState, ahead: Ledger
) -> dict[str, WantedFile] | None:
    """The remote snapshot from the ledger, when it is provably the one that was applied: same commit, configuration and rows."""
    if (
        head.commit != state.applied_commit
        or job.digest != state.applied_config_digest
        or not state.consistent
    ):
        return None
    entries = {
        path: row.upstream
        for path, row in ahead.recorded().items()
        if row.ownership is not Ownership.UNLISTED
    }
    if set_digest(entries) != state.applied_files_digest or has_unnamed_owner(entries):
        return None
    return with_current_ids(entries, ctx.resolve_owner)


def _listed(
    job: Job, ctx: RunContext, deadline: Deadline, head: Head, state: JobState, ahead: Ledger
) -> dict[str, WantedFile]:
    listing = ctx.source.listing(
        job.repo, head.commit, job.paths, ctx.store, deadline, max_listed(job)
    )
    remote = dict(desired(job, listing, ctx.resolve_owner))
    if job.lfs is not Lfs.FETCH:
        return remote
    return with_contents(
        job,
        head.commit,
        remote,
        ahead.recorded(),
        state.applied_config_digest == job.digest,
        ctx.source,
        ctx.blobs,
        deadline,
    )


def _save_progress(
    job: Job,
    ctx: RunContext,
    report: RunReport,
    walked: Walked,
    decision: Decision,
    state: JobState,
) -> JobState:
    """What the plan did before somebody got in its way, or before all could be seen, is recorded; then the run plans anew."""
    after = replace(
        hook_state.require_reload(job, state, report.started_at) if walked.changes else state,
        consistent=False,
        reload_commit=None,
    )
    after = replace(after, directories_to_fix=_folders_waiting(decision, walked))
    partial = replace(
        report,
        status=RunStatus.FAILED,
        commit=decision.commit,
        changes=walked.changes,
        error=walked.error,
    )
    partial = (
        partial
        if walked.error is not None
        else replace(partial, status=RunStatus.UNCHANGED, changes=())
    )  # the run's own report will name them
    ctx.store.record(job.name, _recorded(partial, decision, walked, after))
    return after


def _left_alone(report: RunReport, state: JobState, began: float) -> RunReport:
    """Held or paused: no request, no write, no repair."""
    return replace(
        report,
        status=RunStatus.SKIPPED,
        commit=state.applied_commit,
        notes=(*report.notes, f"{state.describe_pause()}; syncd resume {report.job}"),
        seconds=time.perf_counter() - began,
    )


def _repaired(plan: Plan, walked: Walked) -> int:
    """Drift that was put back is not drift any more."""
    failed = {error.path for error in walked.errors}
    return sum(
        action.is_drift
        for action in plan.actions
        if action.kind is not ActionKind.KEEP and action.path not in failed
    )


def _refusing(report: RunReport, error: SyncdError) -> RunReport:
    """The report with what ended the run: refused on purpose, or failed. A rejected commit is named."""
    rejected = (
        error.commit
        if isinstance(error, UntrustedError)
        or (isinstance(error, HookFailedError) and error.rejected)
        else None
    )
    status = (
        RunStatus.REFUSED
        if rejected is not None or isinstance(error, LimitError)
        else RunStatus.FAILED
    )
    return replace(report, status=status, error=error, commit=rejected or report.commit)


def _failed(state: JobState, error: SyncdError) -> JobState:
    """The state after a failure; who was stopped by a signal has not failed, and is as it was."""
    return (
        state
        if isinstance(error, StoppedError)
        else replace(
            state, failures=state.failures + 1, last_error_kind=error.kind, last_error=error.message
        )
    )


def _times(state: JobState, report: RunReport, clock: Clock) -> JobState:
    now = clock.now()
    if isinstance(report.error, StoppedError):
        return state  # it has still to run
    if report.status in (RunStatus.FAILED, RunStatus.REFUSED):
        return replace(state, last_run_at=now)
    state = replace(
        state,
        last_run_at=now,
        last_change_at=now if report.status is RunStatus.CHANGED else state.last_change_at,
    )
    if state.reload_pending:
        return state  # not done before the reload is
    return replace(state, last_success_at=now, failures=0, last_error_kind=None, last_error=None)


__all__ = ["Decision", "Options", "RunContext", "decide", "plan_job", "run_job"]
