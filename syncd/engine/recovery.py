"""After an interrupted run: look at the disk and believe it.

The ledger never claims more than the disk holds.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.colliding_names import collisions_among
from syncd.engine.apply import carried_out
from syncd.engine.coverage import real_path, with_mounts
from syncd.models import (
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    RunReport,
    RunStatus,
    Trigger,
)
from syncd.ports import (
    UNKNOWN_SIZE,
    Intent,
    JobState,
    Mirror,
    PendingReload,
    RunRecord,
    Store,
    Target,
)


def recover(job: Job, store: Store, mirror: Mirror) -> JobState:
    """Finish what an interrupted run left behind; return the job's state after it.

    After it the job has no intent, its ledger says what the disk holds, and a reload is pending if
    any action of the intent took effect. After a run that did not finish, syncd's empty directories
    are removed too. Raises MirrorError when the disk can't be read; the intent stays then, and
    nothing is concluded.
    """
    state = store.state(job.name)
    intent = store.intent(job.name)
    if intent is not None:
        return _conclude(job, intent, state, store, mirror)
    if not state.consistent:
        _remove_empty_directories(job, state, store, mirror)
    return state


def _remove_empty_directories(job: Job, state: JobState, store: Store, mirror: Mirror) -> None:
    gone = mirror.remove_empty_directories(_with_roots(store.folders(job.name), job, ()))
    if gone:
        report = RunReport(
            job.name,
            RunStatus.UNCHANGED,
            job.repo,
            job.ref,
            None,
            state.applied_commit,
            trigger=Trigger.START,
        )
        store.record(job.name, RunRecord(report, directories_removed=gone, state=state))


class _Effect(Struct):
    """What an interrupted plan did: the actions that took effect, and the rows that follow from
    them.
    """

    actions: list[Action] = field(default_factory=list)
    upserts: dict[str, LedgerRow] = field(default_factory=dict)
    removals: set[str] = field(default_factory=set)


def _conclude(job: Job, intent: Intent, state: JobState, store: Store, mirror: Mirror) -> JobState:
    """Record what the intent did; return the job's state after it."""
    mirror.remove_temp_files(intent.id, _temp_directories(intent))
    local = mirror.scan(_targets(intent, store.load_ledger(job.name)))
    effect = _effect_of(intent, local)
    created = _created_directories(intent, mirror)
    folders = store.folders(job.name) | set(created)
    gone = mirror.remove_empty_directories(_with_roots(folders, job, intent.actions))
    pending = _pending_reload(intent, len(effect.actions), state)
    after = replace(state, consistent=False, pending_reload=pending)
    record = RunRecord(
        _report(job, intent, state, effect),
        _with_real_paths(effect.upserts, mirror),
        frozenset(effect.removals),
        directories_created=tuple(folder for folder in created if folder not in gone),
        directories_removed=gone,
        state=after,
    )
    store.record(job.name, record)
    return after


def _targets(intent: Intent, recorded: Mapping[str, LedgerRow]) -> dict[str, Target]:
    return {
        action.path: Target(
            _entry_root(action), recorded.get(action.path), action.is_directory, _size_of(action)
        )
        for action in intent.actions
    }


def _effect_of(intent: Intent, local: Mapping[str, LocalFile | None]) -> _Effect:
    """Compare each action with the disk.

    Where the disk can't be read, the action counts as carried out.

    A reload too many does no harm; one too few does.
    """
    effect = _Effect()
    for action in intent.actions:
        have = local.get(action.path)
        if have is not None and have.problem is not None:
            effect.actions.append(action)
        elif action.kind is ActionKind.REMOVE:
            _judge_removal(action, have, effect)
        elif action.is_directory:
            if have is not None and _has_permissions(action, have):
                effect.actions.append(action)
        elif have is not None and _has_content(action, have) and _has_permissions(action, have):
            _judge_written(action, have, effect)
    return effect


def _judge_removal(action: Action, have: LocalFile | None, effect: _Effect) -> None:
    """Take the row away when the file is gone.

    A directory of the same name may have come in its place.
    """
    if have is None or have.kind is Kind.DIRECTORY:
        effect.removals.add(action.path)
        effect.actions.append(action)


def _judge_written(action: Action, have: LocalFile, effect: _Effect) -> None:
    if action.wanted is not None:
        effect.upserts[action.path] = LedgerRow(action.wanted, have.recordable_stat)
        effect.actions.append(action)


def _has_content(action: Action, have: LocalFile) -> bool:
    return action.wanted is not None and action.wanted.same_content(have)


def _has_permissions(action: Action, have: LocalFile) -> bool:
    return action.wanted is not None and action.wanted.same_permissions(have)


def _with_real_paths(upserts: Mapping[str, LedgerRow], mirror: Mirror) -> dict[str, LedgerRow]:
    """Return the rows with the real path and the mount point of each file."""
    resolved = mirror.resolve({row.entry.root for row in upserts.values()})
    rows = {
        path: replace(row, real=real_path(path, row.entry.root, resolved))
        for path, row in upserts.items()
    }
    return with_mounts(rows, mirror)


def _report(job: Job, intent: Intent, state: JobState, effect: _Effect) -> RunReport:
    return RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        job.ref,
        intent.commit,
        state.applied_commit,
        tuple(carried_out(action) for action in effect.actions),
        trigger=Trigger.START,
        started_at=intent.started_at,
    )


def _temp_directories(intent: Intent) -> set[tuple[str, str]]:
    """Return each directory that the intent may have left something temporary in, with its root.

    Also those above the directories that it was to make: there it may have tried how the disk tells
    names apart.
    """
    pairs = {
        (_entry_root(action), posixpath.dirname(action.path))
        for action in intent.actions
        if not action.is_directory
    }
    if collisions_among(action.path for action in intent.actions):
        pairs |= {
            (_root_of(intent, folder), posixpath.dirname(folder)) for folder in intent.folders
        }
    return pairs


def _pending_reload(intent: Intent, carried_out: int, state: JobState) -> PendingReload | None:
    """Return the reload that is pending after the intent.

    It is for the commit whose whole set is in place: the interrupted one, or the one before it.
    Where it is neither, nothing may be reloaded yet.
    """
    if not (intent.reload_was_pending or (intent.reload_after and carried_out)):
        return None
    pending = state.pending_reload or PendingReload()
    if carried_out == len(intent.actions):
        return replace(pending, commit=intent.commit)
    return pending if carried_out == 0 else replace(pending, commit=None)


def _size_of(action: Action) -> int | None:
    if action.wanted is None:
        return None
    return UNKNOWN_SIZE if action.wanted.size is None else action.wanted.size


def _entry_root(action: Action) -> str:
    entry = action.wanted or (action.recorded.entry if action.recorded else None)
    return entry.root if entry else "/"


def _created_directories(intent: Intent, mirror: Mirror) -> tuple[str, ...]:
    """Return the directories of the intent that exist.

    One that can't be read now counts as existing: forgotten, it would be in the way for ever as
    another's.
    """
    found = mirror.scan(
        {folder: Target(_root_of(intent, folder), None) for folder in intent.folders}
    )
    return tuple(
        folder
        for folder, local in found.items()
        if local is not None and (local.kind is Kind.DIRECTORY or local.problem is not None)
    )


def _root_of(intent: Intent, folder: str) -> str:
    """Return the root of the action that needed this directory.

    A directory above every root is on the operator's side of it.
    """
    for action in intent.actions:
        root = action.wanted.root if action.wanted else "/"
        if folder.startswith(root.rstrip("/") + "/") and action.path.startswith(folder + "/"):
            return root
    return posixpath.dirname(folder) or "/"


def _with_roots(
    folders: Iterable[str], job: Job, actions: Iterable[Action]
) -> set[tuple[str, str]]:
    """Return each directory with its root: the deepest one above it that the job or an action
    has.
    """
    roots = {posixpath.dirname(rule.to) or "/" for rule in job.paths}
    roots |= {_entry_root(action) for action in actions}
    pairs = set()
    for folder in folders:
        fitting = [root for root in roots if folder.startswith(root.rstrip("/") + "/")]
        pairs.add((max(fitting, key=len, default=posixpath.dirname(folder) or "/"), folder))
    return pairs
