"""After an interrupted run: look at the disk and believe it. The ledger never claims more than the disk holds."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from msgspec.structs import replace

from syncd.colliding_names import collisions_among
from syncd.engine.apply import as_change
from syncd.engine.coverage import real_path, with_mounts
from syncd.models import Action, ActionKind, Job, Kind, LedgerRow, RunReport, RunStatus, Trigger
from syncd.ports import UNKNOWN_SIZE, Intent, JobState, Mirror, RunRecord, Store, Target


def recover(job: Job, store: Store, mirror: Mirror) -> JobState:
    """The job has no intent any more; its ledger says what the disk holds; a reload is owed if any step of the intent took effect.

    After a run that did not finish whole, folders of ours that stand empty are gone too. Raises MirrorError when the disk can't be
    asked; the intent stays then, and nothing is concluded.
    """
    state = store.state(job.name)
    intent = store.intent(job.name)
    if intent is not None:
        return _conclude(job, intent, state, store, mirror)
    if not state.consistent:
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
    return state


def _conclude(job: Job, intent: Intent, state: JobState, store: Store, mirror: Mirror) -> JobState:
    recorded = store.load_ledger(job.name)
    mirror.remove_temp_files(intent.id, _with_leftovers(intent))
    local = mirror.scan(
        {
            action.path: Target(
                _entry_root(action),
                recorded.get(action.path),
                action.is_directory,
                _size_of(action),
            )
            for action in intent.actions
        }
    )
    upserts: dict[str, LedgerRow] = {}
    removals: set[str] = set()
    took_effect: list[Action] = []
    for action in intent.actions:
        have = local.get(action.path)
        if have is not None and have.problem is not None:
            took_effect.append(
                action
            )  # can't be told: a reload too many is harmless, one too few is not
        elif action.kind is ActionKind.REMOVE:
            if (
                have is None or have.kind is Kind.DIRECTORY
            ):  # the file is gone; a folder of the same name may have come in its place
                removals.add(action.path)
                took_effect.append(action)
        elif action.is_directory:
            if (
                have is not None
                and action.wanted is not None
                and action.wanted.same_permissions(have)
            ):
                took_effect.append(action)
        elif (
            have is not None
            and action.wanted is not None
            and action.wanted.same_content(have)
            and action.wanted.same_permissions(have)
        ):
            upserts[action.path] = LedgerRow(action.wanted, have.recordable_stat)
            took_effect.append(action)
    made = _folders_that_stand(intent, mirror)
    gone = mirror.remove_empty_directories(
        _with_roots(store.folders(job.name) | set(made), job, intent.actions)
    )
    owed = intent.reload_was_pending or (intent.reload_after and bool(took_effect))
    after = replace(
        state,
        consistent=False,
        reload_pending=owed,
        reload_commit=_whole_at(intent, len(took_effect), state),
    )
    changes = tuple(as_change(action) for action in took_effect)
    resolved = mirror.resolve({row.entry.root for row in upserts.values()})
    upserts = {
        path: replace(row, real=real_path(path, row.entry.root, resolved))
        for path, row in upserts.items()
    }
    upserts = with_mounts(upserts, mirror)
    report = RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        job.ref,
        intent.commit,
        state.applied_commit,
        changes,
        trigger=Trigger.START,
        started_at=intent.started_at,
    )
    kept = tuple(folder for folder in made if folder not in gone)
    store.record(
        job.name,
        RunRecord(
            report,
            upserts,
            frozenset(removals),
            directories_created=kept,
            directories_removed=gone,
            state=after,
        ),
    )
    return after


def _with_leftovers(intent: Intent) -> set[tuple[str, str]]:
    """Each folder that the intent may have left something temporary in, with the root that it is reached from.

    Also those above the folders that it was to make: there it may have tried how the disk tells names apart.
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


def _whole_at(intent: Intent, took_effect: int, state: JobState) -> str | None:
    """The commit whose whole set stands: the interrupted one, the one before it, or neither, and then nothing may be reloaded yet."""
    return (
        intent.commit
        if took_effect == len(intent.actions)
        else state.reload_commit
        if took_effect == 0
        else None
    )


def _size_of(action: Action) -> int | None:
    return (
        None
        if action.wanted is None
        else UNKNOWN_SIZE
        if action.wanted.size is None
        else action.wanted.size
    )


def _entry_root(action: Action) -> str:
    entry = action.wanted or (action.recorded.entry if action.recorded else None)
    return entry.root if entry else "/"


def _folders_that_stand(intent: Intent, mirror: Mirror) -> tuple[str, ...]:
    found = mirror.scan(
        {folder: Target(_root_of(intent, folder), None) for folder in intent.folders}
    )
    # one that can't be looked at now counts as standing: forgotten, it would be in the way for ever as somebody else's
    return tuple(
        folder
        for folder, local in found.items()
        if local is not None and (local.kind is Kind.DIRECTORY or local.problem is not None)
    )


def _root_of(intent: Intent, folder: str) -> str:
    """The root of the action that needed this folder; a folder above every root is the operator's side of it."""
    for action in intent.actions:
        root = action.wanted.root if action.wanted else "/"
        if folder.startswith(root.rstrip("/") + "/") and action.path.startswith(folder + "/"):
            return root
    return posixpath.dirname(folder) or "/"


def _with_roots(
    folders: Iterable[str], job: Job, actions: Iterable[Action]
) -> set[tuple[str, str]]:
    """Each folder with the root that it is reached from: the deepest one above it that the job or an action of it has."""
    roots = {posixpath.dirname(rule.to) or "/" for rule in job.paths} | {
        _entry_root(action) for action in actions
    }
    pairs = set()
    for folder in folders:
        fitting = [root for root in roots if folder.startswith(root.rstrip("/") + "/")]
        pairs.add((max(fitting, key=len, default=posixpath.dirname(folder) or "/"), folder))
    return pairs
