"""PURE: what the set asks of the folders that syncd made. Their wishes are the files': a folder is as the files in it say by `dir_mode` and owner.

So a rollback, an undo and a rejected commit bring back the folders' modes with the files', and nothing about folders has to be
remembered but which ones are ours.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.models import (
    PERMISSIONS,
    Action,
    ActionKind,
    Drift,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Publish,
    WantedFile,
)
from syncd.ports import JobState, Target


class OwnedDirectories(Struct, frozen=True):
    """Folders that syncd made for a job: what the set asks of each now, what the last set asked, and which are still `waiting` for that."""

    wanted: Mapping[str, WantedFile] = field(default_factory=dict)
    before: Mapping[str, WantedFile] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        remote: Mapping[str, WantedFile],
        recorded: Mapping[str, LedgerRow],
        ours: Collection[str],
        state: JobState,
    ) -> OwnedDirectories:
        """`ours` may hold a folder that has become a file meanwhile, and becomes one again: as long as the ledger knows the file, it is none."""
        known, last = [folder for folder in ours if folder not in recorded], applied_set(recorded)
        now = wanted_directories(remote, known)
        return cls(
            now,
            now if last == remote else wanted_directories(last, known),
            frozenset(state.directories_to_fix),
        )


NO_DIRECTORIES = OwnedDirectories()
OWNER_ACCESS = 0o500  # to enter a folder and list it


def wanted_directories(
    entries: Mapping[str, WantedFile], made: Collection[str]
) -> dict[str, WantedFile]:
    """Folder -> what the entries ask of it, for those of `made` that hold one of them.

    Where several paths of a job reach into one folder, the deepest `to` at or above it decides, and of equals the smaller mode: never
    which file happens to be there. A folder above every `to` is on the operator's side, where whoever owns one could replace what
    is below: it gets the mode, and never another owner.
    """
    folders = frozenset(made).difference(entries)
    if not folders:
        return {}
    best: dict[str, tuple[tuple[int, ...], WantedFile]] = {}
    climbed: set[tuple[str, str, int, int | None, int | None]] = set()
    for parent, root, mode, uid, gid in {
        (path[: path.rfind("/")], entry.root, entry.dir_mode, entry.uid, entry.gid)
        for path, entry in entries.items()
    }:
        start, folder = root.rstrip("/") + "/", parent
        while folder and (step := (folder, root, mode, uid, gid)) not in climbed:
            climbed.add(step)
            if folder in folders:
                inside = folder.startswith(start)
                rank = (
                    not inside,
                    -len(root) if inside else 0,
                    mode,
                    -1 if uid is None else uid,
                    -1 if gid is None else gid,
                )
                if folder not in best or rank < best[folder][0]:
                    best[folder] = (
                        rank,
                        _folder(mode, uid, gid, root)
                        if inside
                        else _folder(mode, None, None, posixpath.dirname(folder)),
                    )
            folder = folder[: folder.rfind("/")]
    return {folder: entry for folder, (_, entry) in sorted(best.items())}


def _folder(mode: int, uid: int | None, gid: int | None, root: str) -> WantedFile:
    return WantedFile("", mode, Kind.DIRECTORY, uid, gid, root=root, dir_mode=mode)


def applied_set(recorded: Mapping[str, LedgerRow]) -> dict[str, WantedFile]:
    """What the last set had, from the ledger: without what `prune: off` left."""
    return {
        path: row.upstream
        for path, row in recorded.items()
        if row.ownership is not Ownership.UNLISTED
    }


def directory_targets(folders: Mapping[str, WantedFile]) -> dict[str, Target]:
    """How to look at them."""
    return {path: Target(entry.root, None, is_folder=True) for path, entry in folders.items()}


def directory_actions(
    job: Job, folders: OwnedDirectories, local: Mapping[str, LocalFile | None]
) -> list[Action]:
    """What to do about those that are not as the set asks."""
    steps = (
        _step(job, path, want, folders, local.get(path)) for path, want in folders.wanted.items()
    )
    return [step for step in steps if step is not None]


def unlocking_actions(
    job: Job, folders: OwnedDirectories, local: Mapping[str, LocalFile | None]
) -> tuple[Action, ...]:
    """What to do first about folders that keep us from seeing what is in them, because somebody took from their owner the right to enter.

    Root is never kept out; and a tree that can't be read is not carried into a new one either, so with `publish: symlink` nothing is opened.
    """
    unseen = [path for path, have in local.items() if have is not None and have.problem is not None]
    steps = (
        directory_actions(job, folders, local) if unseen and job.publish is Publish.FILES else []
    )
    return tuple(
        replace(step, reason=f"{step.reason}; what is in it can be seen after that")
        for step in steps
        if step.kind is ActionKind.MODE and _hides(step, unseen)
    )


def _hides(step: Action, unseen: Iterable[str]) -> bool:
    return (
        step.expected is not None
        and step.expected.mode & OWNER_ACCESS != OWNER_ACCESS
        and any(path.startswith(f"{step.path}/") for path in unseen)
    )


def _step(
    job: Job, path: str, want: WantedFile, folders: OwnedDirectories, have: LocalFile | None
) -> Action | None:
    """What to do about a folder of ours that holds something of the set; it is judged as a file's mode and owner are, by the same rules."""
    if have is None or have.problem is not None or want.same_permissions(have):
        return None
    before, to_fix = folders.before.get(path), path in folders.waiting
    touched_here = not to_fix and (before is None or not before.same_permissions(have))
    asked_anew = (
        to_fix
        or before is None
        or (before.mode, before.uid, before.gid) != (want.mode, want.uid, want.gid)
    )
    if touched_here and (
        job.drift is Drift.KEEP
        or (job.drift is Drift.REPORT and (before is None or not asked_anew))
    ):
        return Action(
            ActionKind.KEEP,
            path,
            want,
            None,
            have,
            f"changed here: {_difference(want, have)}",
            is_drift=job.drift is Drift.REPORT,
        )
    return Action(
        ActionKind.MODE, path, want, None, have, _difference(want, have), is_drift=not asked_anew
    )


def _difference(want: WantedFile, have: LocalFile) -> str:
    if want.mode != have.mode & PERMISSIONS:
        return f"folder, its mode is {have.mode:04o} and should be {want.mode:04o}"
    return f"folder, it belongs to {have.uid}:{have.gid} and should to {want.uid if want.gid is None else f'{want.uid}:{want.gid}'}"


def directories_to_fix(steps: Iterable[Action], made: Iterable[str]) -> tuple[str, ...]:
    """The folders that wait until these steps are done, those that will be made among them: what is found of them half-way is nobody's drift."""
    return tuple(
        sorted(
            {
                *made,
                *(action.path for action in steps if action.is_directory and not action.is_drift),
            }
        )
    )


__all__ = [
    "NO_DIRECTORIES",
    "OwnedDirectories",
    "applied_set",
    "directories_to_fix",
    "directory_actions",
    "directory_targets",
    "unlocking_actions",
    "wanted_directories",
]
