"""What the set asks of the directories that syncd made: their mode and owner.

A directory is as the files in it say by `dir_mode` and owner. So a rollback, an undo and a rejected
commit bring back the directories' modes with the files', and nothing about directories has to be
stored but which ones syncd made. Pure: no I/O.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.models import (
    PERMISSIONS,
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    WantedFile,
)
from syncd.policies import Drift, Publish
from syncd.ports import JobState, Target

OWNER_ACCESS = 0o500  # what an owner needs to enter a directory and to list it


class OwnedDirectories(Struct, frozen=True):
    """The directories that syncd made for a job.

    `wanted` is what the set asks of each now, `before` what the last set asked. `to_fix` are those
    that do not yet have what was asked.
    """

    wanted: Mapping[str, WantedFile] = field(default_factory=dict)
    before: Mapping[str, WantedFile] = field(default_factory=dict)
    to_fix: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        remote: Mapping[str, WantedFile],
        recorded: Mapping[str, LedgerRow],
        created: Collection[str],
        state: JobState,
    ) -> OwnedDirectories:
        """Return the directories of a job, from the ones that syncd has `created`.

        One of these may have become a file meanwhile, and become a directory again: as long as the
        ledger knows the file, it is none.
        """
        known = [folder for folder in created if folder not in recorded]
        last = applied_set(recorded)
        wanted = wanted_directories(remote, known)
        before = wanted if last == remote else wanted_directories(last, known)
        return cls(wanted, before, frozenset(state.directories_to_fix))


NO_DIRECTORIES = OwnedDirectories()


class _Wish(Struct, frozen=True):
    """What the files of one directory ask of it, and of the directories above it."""

    folder: str
    root: str
    mode: int
    uid: int | None
    gid: int | None

    def above(self) -> Iterator[str]:
        """Yield the directory and every directory above it, without `/`."""
        folder = self.folder
        while folder:
            yield folder
            folder = folder[: folder.rfind("/")]

    def is_below_root(self, folder: str) -> bool:
        """Return whether the directory is below the root of these files."""
        return folder.startswith(self.root.rstrip("/") + "/")

    def rank(self, folder: str) -> tuple[int, ...]:
        """Return what decides between wishes for one directory: the smallest wins."""
        is_below = self.is_below_root(folder)
        return (
            not is_below,
            -len(self.root) if is_below else 0,
            self.mode,
            -1 if self.uid is None else self.uid,
            -1 if self.gid is None else self.gid,
        )

    def entry(self, folder: str) -> WantedFile:
        """Return what the files ask of this directory."""
        if self.is_below_root(folder):
            return _directory(self.mode, self.uid, self.gid, self.root)
        return _directory(self.mode, None, None, posixpath.dirname(folder))


def wanted_directories(
    entries: Mapping[str, WantedFile], created: Collection[str]
) -> dict[str, WantedFile]:
    """Return directory -> what the entries ask of it, for those of `created` that hold one of them.

    Where several paths of a job reach into one directory, the deepest `to` at or above it decides,
    and of equals the smaller mode: never which file happens to be in it. A directory above every
    `to` is on the operator's side, where its owner could replace what is below: it gets the mode,
    and never another owner.
    """
    folders = frozenset(created).difference(entries)
    if not folders:
        return {}
    best: dict[str, tuple[tuple[int, ...], WantedFile]] = {}
    seen: set[tuple[str, _Wish]] = set()
    for wish in _wishes(entries):
        kind = _Wish("", wish.root, wish.mode, wish.uid, wish.gid)
        for folder in wish.above():
            if (folder, kind) in seen:
                break
            seen.add((folder, kind))
            if folder not in folders:
                continue
            rank = wish.rank(folder)
            if folder not in best or rank < best[folder][0]:
                best[folder] = rank, wish.entry(folder)
    return {folder: entry for folder, (_, entry) in sorted(best.items())}


def _wishes(entries: Mapping[str, WantedFile]) -> set[_Wish]:
    """Return the different wishes of all entries: files beside each other mostly have the same."""
    return {
        _Wish(path[: path.rfind("/")], entry.root, entry.dir_mode, entry.uid, entry.gid)
        for path, entry in entries.items()
    }


def _directory(mode: int, uid: int | None, gid: int | None, root: str) -> WantedFile:
    return WantedFile("", mode, Kind.DIRECTORY, uid, gid, root=root, dir_mode=mode)


def applied_set(recorded: Mapping[str, LedgerRow]) -> dict[str, WantedFile]:
    """Return what the last set had, from the ledger: without what `prune: off` left."""
    return {
        path: row.upstream
        for path, row in recorded.items()
        if row.ownership is not Ownership.UNLISTED
    }


def directory_targets(folders: Mapping[str, WantedFile]) -> dict[str, Target]:
    """Return the scan targets of these directories."""
    return {path: Target(entry.root, None, is_directory=True) for path, entry in folders.items()}


def directory_actions(
    job: Job, folders: OwnedDirectories, local: Mapping[str, LocalFile | None]
) -> list[Action]:
    """Return an action for each directory that is not as the set asks."""
    actions = (
        _action(job, path, want, folders, local.get(path)) for path, want in folders.wanted.items()
    )
    return [action for action in actions if action is not None]


def unlocking_actions(
    job: Job, folders: OwnedDirectories, local: Mapping[str, LocalFile | None]
) -> tuple[Action, ...]:
    """Return the actions that unlock directories which hide what is in them.

    Their owner has lost the right to enter them. Root is never kept out; and a tree that cannot be
    read is not copied into a new one either, so with `publish: symlink` nothing is unlocked.
    """
    unseen = [path for path, have in local.items() if have is not None and have.problem is not None]
    if not unseen or job.publish is not Publish.FILES:
        return ()
    return tuple(
        replace(action, reason=f"{action.reason}; what is in it can be seen after that")
        for action in directory_actions(job, folders, local)
        if action.kind is ActionKind.MODE and _hides(action, unseen)
    )


def _hides(action: Action, unseen: Iterable[str]) -> bool:
    return (
        action.expected is not None
        and action.expected.mode & OWNER_ACCESS != OWNER_ACCESS
        and any(path.startswith(f"{action.path}/") for path in unseen)
    )


def _action(
    job: Job, path: str, want: WantedFile, folders: OwnedDirectories, have: LocalFile | None
) -> Action | None:
    """Return what to do about one directory.

    It is judged by the rules for a file's mode and owner.
    """
    if have is None or have.problem is not None or want.same_permissions(have):
        return None
    difference = _difference(want, have)
    before, to_fix = folders.before.get(path), path in folders.to_fix
    changed_here = not to_fix and (before is None or not before.same_permissions(have))
    asked_now = to_fix or before is None or _permissions(before) != _permissions(want)
    is_first_time = before is None or not asked_now
    if changed_here and (job.drift is Drift.KEEP or (job.drift is Drift.REPORT and is_first_time)):
        reported = job.drift is Drift.REPORT
        reason = f"changed here: {difference}"
        return Action(ActionKind.KEEP, path, want, None, have, reason, is_drift=reported)
    return Action(ActionKind.MODE, path, want, None, have, difference, is_drift=not asked_now)


def _permissions(entry: WantedFile) -> tuple[int, int | None, int | None]:
    return entry.mode, entry.uid, entry.gid


def _difference(want: WantedFile, have: LocalFile) -> str:
    if want.mode != have.mode & PERMISSIONS:
        return f"folder, its mode is {have.mode:04o} and should be {want.mode:04o}"
    owner = f"{want.uid}" if want.gid is None else f"{want.uid}:{want.gid}"
    return f"folder, it belongs to {have.uid}:{have.gid} and should to {owner}"


def directories_to_fix(actions: Iterable[Action], created: Iterable[str]) -> tuple[str, ...]:
    """Return the directories that have to wait for these actions, and those that will be made.

    What is found of them after an interruption is not drift.
    """
    waiting = (action.path for action in actions if action.is_directory and not action.is_drift)
    return tuple(sorted({*created, *waiting}))


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
