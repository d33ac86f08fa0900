"""Carry out an undo.

While a change is made, keep what an undo of it needs; when its reload has failed, bring the
previous set back. An undo that is interrupted at any instant is resumed by the next run: the disk
is looked at, and only what is not back yet is done.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from syncd.engine import rejection
from syncd.engine.apply import with_copied_stat
from syncd.engine.context import RunContext
from syncd.engine.decision import Decision
from syncd.engine.directories import applied_set, directories_to_fix, wanted_directories
from syncd.engine.listing_version import with_known_listing
from syncd.engine.undo_plan import Undo, from_text, record_undo, rows_after, to_text, undo_plan
from syncd.errors import BadResponseError, ChangedUnderneathError, HookFailedError, MirrorError
from syncd.git_objects import blob_hasher, blob_id
from syncd.models import (
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Plan,
    RunReport,
    RunStatus,
)
from syncd.ports import (
    ApplyOutcome,
    Blobs,
    Intent,
    JobState,
    PendingReload,
    RunRecord,
    Target,
    UndoInfo,
)

CHUNK_BYTES = 1 << 20


def save_undo(job: Job, ctx: RunContext, state: JobState, decision: Decision) -> JobState:
    """Put everything that the plan replaces into the cache; return the state that names it.

    The plan may be intended with that state. Nothing is kept for a job whose changes are never
    undone, nor for a repair of the applied set. Rows that another job had are left out: they are
    not this job's to get back. Raises MirrorError.
    """
    is_pending = state.pending_reload is not None or state.pending_health is not None
    earlier = read_undo(state, ctx.blobs) if is_pending else None
    is_repair = (
        decision.commit == state.applied_commit and job.digest == state.applied_config_digest
    )
    may_be_undone = (job.undo_on_failure and job.on_change is not None) or job.health is not None
    if not may_be_undone or is_repair:
        return state if earlier is not None else replace(state, undo=None)
    plan = decision.plan
    plan = replace(plan, actions=tuple(_identified(job, action, ctx) for action in plan.actions))
    undo = record_undo(state, plan, decision.remote, decision.ledger.own_rows, earlier)
    for action in plan.actions:
        if action.kind.touches_disk:
            _keep_bytes(action, undo.places[action.path].root, ctx)
    content = to_text(undo).encode()
    ctx.blobs.add(blob_id(content), [content], len(content))
    # before the first file is replaced: after a power cut nothing else knows what was there
    ctx.blobs.sync([*sorted(undo.blobs), blob_id(content)])
    return replace(state, undo=UndoInfo(blob_id(content), tuple(sorted(undo.blobs))))


def _identified(job: Job, action: Action, ctx: RunContext) -> Action:
    """Return the action with the blob id of a file that was too large to read when the plan was
    made.
    """
    have = action.expected
    known = action.wanted or (action.recorded.entry if action.recorded else None)
    if have is None or known is None or not have.is_unread or not action.kind.touches_disk:
        return action
    if have.stat.size > job.limits.size_bytes:
        raise MirrorError(
            f"{action.path} has {have.stat.size} bytes, more than limits.size: "
            f"{job.limits.size_bytes}; it can't be kept for an undo, and nothing was changed",
            path=action.path,
            id="mirror/too-large-to-undo",
            hint=f"move {action.path} away, or leave out undo_on_failure and health",
        )
    hasher, left = blob_hasher(have.stat.size), have.stat.size
    with ctx.mirror.open(action.path, known.root) as content:
        while left and (chunk := content.read(min(CHUNK_BYTES, left))):
            hasher.update(chunk)
            left -= len(chunk)
    return replace(action, expected=replace(have, blob=hasher.hexdigest()))


def _keep_bytes(action: Action, root: str, ctx: RunContext) -> None:
    """Put the content that the action replaces into the cache. Raises ChangedUnderneathError."""
    have = action.expected
    if have is None or have.blob is None or have.kind not in (Kind.FILE, Kind.LINK):
        return
    if ctx.blobs.has(have.blob):
        return
    with ctx.mirror.open(action.path, root) as content:
        try:
            ctx.blobs.add(have.blob, iter(lambda: content.read(CHUNK_BYTES), b""), have.stat.size)
        except BadResponseError as error:
            raise ChangedUnderneathError(
                f"{action.path} was changed while syncd was at work; it was left alone",
                path=action.path,
                id="mirror/changed-meanwhile",
                hint="the next run looks again",
            ) from error


def read_undo(state: JobState, blobs: Blobs) -> Undo | None:
    """Return the undo that the state names; None where there is none, or where it was lost."""
    if state.undo is None:
        return None
    try:
        with blobs.open(state.undo.blob) as content:
            return from_text(content.read().decode())
    except (KeyError, ValueError, TypeError):
        return None


def undo_change(
    job: Job, ctx: RunContext, report: RunReport, error: HookFailedError
) -> tuple[str, ...] | None:
    """Bring back what was there before the change, and reject its commit; return the paths left
    alone.

    None when there is nothing to go back to. A reload is pending after it, for the previous set.
    Raises MirrorError, StoreError: the next run goes on with the undo.
    """
    state = ctx.store.state(job.name)
    undo = read_undo(state, ctx.blobs)
    if undo is None:
        return None
    rejected = rejection.record_rejection(with_known_listing(job, ctx), state, error)
    return _UndoRun(job, ctx, undo, rejected, replace(report, error=error)).execute()


def resume_undo(job: Job, ctx: RunContext, state: JobState, report: RunReport) -> JobState:
    """Finish an undo that was interrupted; return the job's state after it.

    Raises MirrorError, StoreError.
    """
    if state.undo is None or not state.undo.begun:
        return state
    undo = read_undo(state, ctx.blobs)
    if undo is None:
        return _with_undo_begun(state, False)
    reason, commit = "", None
    if state.rejection is not None:
        reason, commit = state.rejection.reason, state.rejection.commit
    error = HookFailedError(reason or "on_change failed", rejected=True, commit=commit)
    report = replace(report, commit=commit, error=error)
    _UndoRun(job, ctx, undo, state, report).execute()
    return ctx.store.state(job.name)


class _UndoRun(Struct, frozen=True):
    """One undo: look at the disk, plan, save the intent, apply, and record."""

    job: Job
    ctx: RunContext
    undo: Undo
    state: JobState
    report: RunReport

    def execute(self) -> tuple[str, ...]:
        """Bring the previous set back; return the paths left alone.

        Raises the first error of an action.
        """
        recorded = self.ctx.store.load_ledger(self.job.name)
        created = self.ctx.store.folders(self.job.name)
        local = self._scan(recorded)
        directories = wanted_directories(applied_set(recorded), created)
        plan = undo_plan(self.undo, recorded, local, os.geteuid() == 0, directories)
        applied = self._apply(plan, recorded, created)
        self._record(plan, recorded, local, applied)
        errors = _errors(applied)
        if errors:
            raise errors[0]
        return tuple(action.path for action in plan.of(ActionKind.KEEP))

    def _scan(self, recorded: Mapping[str, LedgerRow]) -> dict[str, LocalFile | None]:
        return self.ctx.mirror.scan(
            {
                path: Target(
                    before.root,
                    recorded.get(path),
                    before.is_folder,
                    before.local.stat.size if before.local else None,
                )
                for path, before in self.undo.places.items()
            }
        )

    def _apply(
        self, plan: Plan, recorded: Mapping[str, LedgerRow], created: frozenset[str]
    ) -> ApplyOutcome:
        actions = _disk_actions(plan)
        if not actions:
            return ApplyOutcome({})
        intent = self._save_intent(actions)
        entries = applied_set({**recorded, **self.undo.rows})
        directories = wanted_directories(entries, created.union(intent.folders))
        return self.ctx.mirror.apply(intent.id, actions, self.ctx.blobs, created, directories)

    def _save_intent(self, actions: tuple[Action, ...]) -> Intent:
        made = self.ctx.mirror.prepare(self.job, actions)
        intent = Intent(
            secrets.token_hex(6),
            self.job.name,
            self.undo.commit or "",
            self.undo.digest or "",
            actions,
            made,
            self.job.on_change is not None,
            self.ctx.clock.now(),
            reload_was_pending=self.job.on_change is not None,
        )
        to_fix = directories_to_fix(actions, made)
        state = replace(_with_undo_begun(self.state, True), directories_to_fix=to_fix)
        self.ctx.store.begin_intent(intent, state)
        return intent

    def _record(
        self,
        plan: Plan,
        recorded: Mapping[str, LedgerRow],
        local: Mapping[str, LocalFile | None],
        applied: ApplyOutcome,
    ) -> None:
        """Store the ledger as it was before the change, and the job's state."""
        upserts, removals = rows_after(self.undo, local, applied.outcomes)
        upserts |= {
            path: with_copied_stat(recorded[path], copied)
            for path, copied in applied.copied.items()
            if path in recorded and path not in self.undo.places
        }
        record = RunRecord(
            replace(self.report, status=RunStatus.REFUSED, changes=()),
            upserts,
            removals,
            applied.directories_created,
            applied.directories_removed,
            self._state_after(plan, applied),
            undone_commit=None if _errors(applied) else self.report.commit,
        )
        self.ctx.store.record(self.job.name, record)

    def _state_after(self, plan: Plan, applied: ApplyOutcome) -> JobState:
        """Return the state with a reload pending; with the previous set as the applied one once all
        is back.
        """
        if _errors(applied):
            return replace(
                _with_undo_begun(self.state, True),
                consistent=False,
                pending_reload=self._pending_reload(None),
                directories_to_fix=directories_to_fix(
                    _disk_actions(plan), applied.directories_created
                ),
            )
        return replace(
            self.state,
            consistent=True,
            pending_reload=self._pending_reload(self.undo.commit or ""),
            pending_health=None,
            undo=None,
            applied_commit=self.undo.commit,
            applied_config_digest=self.undo.digest,
            files=self.undo.files,
            applied_files_digest=None,
            directories_to_fix=(),
        )

    def _pending_reload(self, commit: str | None) -> PendingReload | None:
        """Return the reload that is pending after the undo; None without an `on_change`."""
        if self.job.on_change is None:
            return None
        before = self.state.pending_reload or PendingReload(
            reloaded_commit=self.state.applied_commit
        )
        return replace(before, commit=commit)


def _with_undo_begun(state: JobState, begun: bool) -> JobState:
    return replace(state, undo=None if state.undo is None else replace(state.undo, begun=begun))


def _disk_actions(plan: Plan) -> tuple[Action, ...]:
    return tuple(action for action in plan.actions if action.kind.touches_disk)


def _errors(applied: ApplyOutcome) -> list[MirrorError]:
    failed = [one.error for one in applied.outcomes.values() if one.error is not None]
    return [*failed, *applied.other_errors]
