"""The disk as the engine's Mirror (`ports.Mirror`): scan, prepare, apply, clean up.

The parts are in the modules beside this one.
"""

from __future__ import annotations

import copy
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from syncd.clock import Clock
from syncd.deadline import no_limit
from syncd.errors import UnsafePathError
from syncd.mirror.case_sensitivity import distinguishes_by_lookup, distinguishes_by_trial
from syncd.mirror.cleanup import remove_empty_directories, remove_temp_files
from syncd.mirror.dirfd import translated_errors
from syncd.mirror.emptied_directories import check_replaceable_directories
from syncd.mirror.free_space import check_free_space, nearest_existing_dir
from syncd.mirror.mounts import check_mounts, mount_points
from syncd.mirror.paths import names_below
from syncd.mirror.permissions import refuse_lockout
from syncd.mirror.racy import KernelClock
from syncd.mirror.read_file import open_current
from syncd.mirror.scan import scan
from syncd.mirror.spelling import is_same_file, other_spellings, resolve
from syncd.mirror.trash import Trash, TrashLimits
from syncd.mirror.write import PlanWriter
from syncd.models import Action, ActionKind, Job, Kind, LocalFile, RealFolder, WantedFile
from syncd.ports import NO_INODES, ApplyOutcome, BlobReader, Inodes, Target
from syncd.progress import SILENT, ProgressListener
from syncd.protected_paths import identity_of


class DiskMirror:
    """The Mirror that writes files in place; `publish: symlink` builds on it.

    `clock` is the wall clock; `kernel_clock` is the one that files are stamped with.
    """

    def __init__(
        self,
        trash_dir: Path,
        clock: Clock,
        kernel_clock: KernelClock | None = None,
        trash_limits: TrashLimits = TrashLimits(),
    ) -> None:
        self.trash = Trash(trash_dir, trash_limits, clock.monotonic)
        self.kernel_clock = kernel_clock or KernelClock()
        self.progress: ProgressListener = SILENT
        self._clock = clock
        self._devices: dict[str, int] = {}  # directory -> its file system when it was last scanned

    def for_job(self, job: Job, progress: ProgressListener = SILENT) -> DiskMirror:
        """Return the same disk for a run of this job, whose name goes into the trash's entries.

        `progress` hears what is written.
        """
        own = copy.copy(self)
        own.trash, own.progress = self.trash.for_job(job.name), progress
        return own

    def trash_copies(self, actions: Iterable[Action]) -> list[tuple[str, int]]:
        """Return directory and size of each file that these actions will add to the trash.

        Raises MirrorError.
        """
        return [(str(self.trash.directory), size) for size in self.trash.sizes(actions)]

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        """Return what is at each destination now; None where nothing is. Raises MirrorError."""
        with translated_errors("inspect"):
            found = scan(targets, self.kernel_clock.now_ns, self._devices, check)
            check_mounts(targets, found, self.trash.job)
        return found

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        """Return whether the disk keeps the names apart; None where that needs a trial.

        With an `intent`, a trial directory answers. Raises MirrorError.
        """
        if intent is None:
            return distinguishes_by_lookup(folder, names, root)
        with translated_errors("try how names are compared in"):
            return distinguishes_by_trial(folder, names, root, intent)

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return device and inode of those of the directories that exist."""
        found = {folder: identity_of(folder) for folder in folders}
        return {folder: identity for folder, identity in found.items() if identity is not None}

    def check_replaceable_directories(
        self, actions: Iterable[Action], owned_dirs: frozenset[str]
    ) -> None:
        """Raise MirrorError where a directory that becomes a file holds what the actions leave."""
        with translated_errors("look into"):
            check_replaceable_directories(actions, owned_dirs)

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        """Check that the actions can be carried out; return the directories that will be made.

        Raises MirrorError; nothing was touched.
        """
        writes = [
            action
            for action in actions
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE) and action.wanted is not None
        ]
        for action in writes:
            if action.wanted is not None:
                names_below(action.path, action.wanted.root)
                _refuse_link_at_root(job, action)
        with translated_errors("check the free space at"):
            check_free_space(actions, self.trash_copies(actions))
            made = missing_parents(writes)
        refuse_lockout(actions, made)
        return made

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: BlobReader,
        owned_dirs: frozenset[str],
        dir_entries: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        """Carry out the actions with a `PlanWriter`.

        The six parameters are those of `ports.Mirror`.
        """
        with translated_errors("write to"):
            writer = PlanWriter(
                intent,
                blobs,
                self.trash,
                self._clock.now,
                owned_dirs,
                dir_entries,
                self._devices,
                kept,
                clock=self.kernel_clock,
                progress=self.progress,
                on_done=lambda one: self.progress.acted(one.kind.value, one.path),
            )
            return writer.run(actions)

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """Remove what the interrupted `intent` left in these (root, directory) pairs."""
        with translated_errors("clean up in"):
            return remove_temp_files(intent, folders)

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Remove the empty ones of these (root, directory) pairs; return those that are gone."""
        return remove_empty_directories(folders)

    def open(self, path: str, root: str) -> BinaryIO:
        """Open the bytes of the file, or the text of the link, that is at `path` now."""
        return open_current(path, root)

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        """Return where each directory really is. Raises MirrorError."""
        return resolve(folders)

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        """Return the mount point of each directory, without those below `/`. Raises MirrorError."""
        with translated_errors("find the mounts of"):
            return mount_points(folders)

    def is_same_file(self, one: str, other: str) -> bool:
        """Return whether two destinations are one entry of one directory. Raises MirrorError."""
        with translated_errors("inspect"):
            return is_same_file(one, other)

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        """Return how the disk spells those that exist under another spelling."""
        with translated_errors("inspect"):
            return other_spellings(paths)


def _refuse_link_at_root(job: Job, action: Action) -> None:
    """Raise UnsafePathError for a link at a job's own `to:` that syncd did not write."""
    expected = action.expected
    if expected is None or expected.kind is not Kind.LINK or action.recorded is not None:
        return
    if action.path in {rule.to for rule in job.paths}:
        raise UnsafePathError(
            f"{action.path} is a link; syncd writes through no link "
            "and replaces none at a job's own to:",
            id="mirror/link-at-to",
            path=action.path,
            hint=f"write to: {os.path.realpath(action.path)} instead, or remove the link",
        )


def missing_parents(writes: Iterable[Action]) -> tuple[str, ...]:
    """Return the directories above the files of these actions that do not exist yet."""
    missing: set[str] = set()
    for parent in {posixpath.dirname(action.path) for action in writes}:
        path, existing = parent, nearest_existing_dir(parent)
        while path != existing:
            missing.add(path)
            path = posixpath.dirname(path)
    return tuple(sorted(missing))
