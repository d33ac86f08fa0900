"""Carries out an undo: keeps what it will need while a change is made, and brings the previous set back when its reload has failed.

Interrupted at any instant it is taken up again by the next run: what stands is looked at, and only what is not back yet is done.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from syncd.clock import Clock
from syncd.engine import hook_state
from syncd.engine.apply import with_copied_stat
from syncd.engine.directories import applied_set, directories_to_fix, wanted_directories
from syncd.engine.undo_plan import Undo, from_text, record_undo, rows_after, to_text, undo_plan
from syncd.errors import BadResponseError, ChangedUnderneathError, HookFailedError, MirrorError
from syncd.git_objects import blob_hasher, blob_id
from syncd.models import (
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    Plan,
    RunReport,
    RunStatus,
    WantedFile,
)
from syncd.ports import ApplyOutcome, Blobs, Intent, JobState, Mirror, RunRecord, Store, Target

CHUNK_BYTES = 1 << 20


class UndoContext(Protocol):
    """Where a change and its undo are made; a House is one."""

    @property
    def store(self) -> Store: ...
    @property
    def mirror(self) -> Mirror: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def clock(self) -> Clock: ...


def save_undo(
    job: Job,
    ctx: UndoContext,
    state: JobState,
    commit: str,
    plan: Plan,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
) -> JobState:
    """The state with which the plan may be intended: everything that it replaces is in the cache, and named.

    `recorded` is the job's ledger without rows that another job had, which are not this one's to get back.

    Nothing is kept for a job that does not ask for it, nor for a repair of the set that stands. Raises MirrorError.
    """
    earlier = read_undo(state, ctx.blobs) if state.reload_pending else None
    if (
        not job.undo_on_failure
        or job.on_change is None
        or (commit == state.applied_commit and job.digest == state.applied_config_digest)
    ):
        return state if earlier is not None else replace(state, undo=None, undo_blobs=())
    plan = replace(plan, actions=tuple(_identified(job, action, ctx) for action in plan.actions))
    undo = record_undo(state, plan, remote, recorded, earlier)
    for action in plan.actions:
        if action.kind.touches_disk:
            _keep_bytes(action, undo.places[action.path].root, ctx)
    content = to_text(undo).encode()
    ctx.blobs.add(blob_id(content), [content], len(content))
    return replace(state, undo=blob_id(content), undo_blobs=tuple(sorted(undo.blobs)))


def _identified(job: Job, action: Action, ctx: UndoContext) -> Action:
    """The action with the id of a file that was too large to read when the plan was made."""
    have, known = (
        action.expected,
        action.wanted or (action.recorded.entry if action.recorded else None),
    )
    if have is None or known is None or not have.is_unread or not action.kind.touches_disk:
        return action
    if have.stat.size > job.limits.size_bytes:
        raise MirrorError(
            f"{action.path} has {have.stat.size} bytes, more than limits.size: {job.limits.size_bytes}; undo_on_failure can't keep it, and nothing was changed",
            path=action.path,
            hint=f"move {action.path} away, or set undo_on_failure: false",
        )
    hasher, left = blob_hasher(have.stat.size), have.stat.size
    with ctx.mirror.open(action.path, known.root) as content:
        while left and (chunk := content.read(min(CHUNK_BYTES, left))):
            hasher.update(chunk)
            left -= len(chunk)
    return replace(action, expected=replace(have, blob=hasher.hexdigest()))


def _keep_bytes(action: Action, root: str, ctx: UndoContext) -> None:
    have = action.expected
    if (
        have is None
        or have.blob is None
        or have.kind not in (Kind.FILE, Kind.LINK)
        or ctx.blobs.has(have.blob)
    ):
        return
    with ctx.mirror.open(action.path, root) as content:
        try:
            ctx.blobs.add(have.blob, iter(lambda: content.read(CHUNK_BYTES), b""), have.stat.size)
        except BadResponseError as error:
            raise ChangedUnderneathError(
                f"{action.path} was changed while syncd was at work; it was left alone",
                path=action.path,
                hint="the next run looks again",
            ) from error


def read_undo(state: JobState, blobs: Blobs) -> Undo | None:
    """The way back that the state names; None where there is none, or where it was lost."""
    if state.undo is None:
        return None
    try:
        with blobs.open(state.undo) as content:
            return from_text(content.read().decode())
    except (KeyError, ValueError, TypeError):
        return None


def undo_change(
    job: Job, ctx: UndoContext, report: RunReport, error: HookFailedError
) -> tuple[str, ...] | None:
    """What stood before the change stands again and its commit is rejected; the paths left alone. None when there is no way back.

    The reload is owed once more then, for the previous set. Raises MirrorError, StoreError: the next run goes on with it.
    """
    state = ctx.store.state(job.name)
    undo = read_undo(state, ctx.blobs)
    if undo is None or not job.undo_on_failure:
        return None
    return _bring_back(
        job,
        undo,
        hook_state.record_rejection(job, state, error),
        ctx,
        replace(report, error=error),
    )


def resume_undo(job: Job, ctx: UndoContext, state: JobState, report: RunReport) -> JobState:
    """An undo that was interrupted is finished; the state after it. Raises MirrorError, StoreError."""
    undo = read_undo(state, ctx.blobs) if state.undo_begun else None
    if undo is None:
        return replace(state, undo_begun=False)
    error = HookFailedError(
        state.rejected_reason or "on_change failed", rejected=True, commit=state.rejected_commit
    )
    _bring_back(job, undo, state, ctx, replace(report, commit=state.rejected_commit, error=error))
    return ctx.store.state(job.name)


def _bring_back(
    job: Job, undo: Undo, state: JobState, ctx: UndoContext, report: RunReport
) -> tuple[str, ...]:
    recorded = ctx.store.load_ledger(job.name)
    ours = ctx.store.folders(job.name)
    local = ctx.mirror.scan(
        {
            path: Target(
                before.root,
                recorded.get(path),
                before.is_folder,
                before.local.stat.size if before.local else None,
            )
            for path, before in undo.places.items()
        }
    )
    plan = undo_plan(
        undo, recorded, local, os.geteuid() == 0, wanted_directories(applied_set(recorded), ours)
    )
    steps = tuple(action for action in plan.actions if action.kind.touches_disk)
    applied = ApplyOutcome({})
    if steps:
        made = ctx.mirror.prepare(job, steps)
        looks = wanted_directories(applied_set(recorded | undo.rows), ours.union(made))
        intent = Intent(
            secrets.token_hex(6),
            job.name,
            undo.commit or "",
            undo.digest or "",
            steps,
            made,
            True,
            ctx.clock.now(),
            reload_was_pending=True,
        )
        ctx.store.begin_intent(
            intent,
            replace(state, undo_begun=True, directories_to_fix=directories_to_fix(steps, made)),
        )
        applied = ctx.mirror.apply(intent.id, steps, ctx.blobs, ours, looks)
    upserts, removals = rows_after(undo, local, applied.outcomes)
    upserts |= {
        path: with_copied_stat(recorded[path], carried)
        for path, carried in applied.copied.items()
        if path in recorded and path not in undo.places
    }
    failures = [
        *(outcome.error for outcome in applied.outcomes.values() if outcome.error is not None),
        *applied.other_errors,
    ]
    after = replace(
        state, consistent=False, reload_pending=True, reload_commit=None, undo_begun=True
    )
    if not failures:
        after = replace(
            after,
            consistent=True,
            undo_begun=False,
            undo=None,
            undo_blobs=(),
            applied_commit=undo.commit,
            applied_config_digest=undo.digest,
            files=undo.files,
            applied_files_digest=None,
            reload_commit=undo.commit or "",
        )
    report = replace(report, status=RunStatus.REFUSED, changes=())
    after = replace(
        after,
        directories_to_fix=directories_to_fix(steps, applied.directories_created)
        if failures
        else (),
    )
    gone = applied.directories_removed
    ctx.store.record(
        job.name,
        RunRecord(
            report,
            upserts,
            removals,
            applied.directories_created,
            gone,
            after,
            withdrawn=None if failures else report.commit,
        ),
    )
    if failures:
        raise failures[0]
    return tuple(action.path for action in plan.of(ActionKind.KEEP))
