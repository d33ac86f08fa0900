"""The disk as the engine's Mirror: looks, prepares, applies, sweeps. The parts are in the modules beside this one."""

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
from syncd.ports import NO_INODES, ApplyOutcome, Blobs, Inodes, Target
from syncd.protected_paths import identity_of


class DiskMirror:
    """`clock` tells the time; `kernel_clock` is the one that files are stamped with."""

    def __init__(
        self,
        trash_dir: Path,
        clock: Clock,
        kernel_clock: KernelClock | None = None,
        trash_limits: TrashLimits = TrashLimits(),
    ) -> None:
        self.trash = Trash(trash_dir, trash_limits, clock.monotonic)
        self.kernel_clock = kernel_clock or KernelClock()
        self._clock = clock
        self._devices: dict[str, int] = {}  # folder -> its file system when it was last looked at

    def of(self, job: Job) -> DiskMirror:
        """The same disk, as a run of this job writes it: the trash notes whose run kept something."""
        mine = copy.copy(self)
        mine.trash = self.trash.of(job.name)
        return mine

    def room_for_trash(self, actions: Iterable[Action]) -> list[tuple[str, int]]:
        """Folder and size of each file that these actions will add to the trash. Raises MirrorError."""
        return [(str(self.trash.directory), size) for size in self.trash.sizes(actions)]

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        with translated_errors("look at"):
            found = scan(targets, self.kernel_clock.now_ns, self._devices, check)
            check_mounts(targets, found, self.trash.job)
        return found

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        if intent is None:
            return distinguishes_by_lookup(folder, names, root)
        with translated_errors("try how names are told apart in"):
            return distinguishes_by_trial(folder, names, root, intent)

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        found = {folder: identity_of(folder) for folder in folders}
        return {folder: identity for folder, identity in found.items() if identity is not None}

    def check_replaceable_directories(
        self, actions: Iterable[Action], folders: frozenset[str]
    ) -> None:
        with translated_errors("look into"):
            check_replaceable_directories(actions, folders)

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        writes = [
            action
            for action in actions
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE) and action.wanted is not None
        ]
        for action in writes:
            if action.wanted is not None:
                names_below(action.path, action.wanted.root)
                if (
                    action.expected is not None
                    and action.expected.kind is Kind.LINK
                    and action.path in {rule.to for rule in job.paths}
                    and action.recorded is None
                ):
                    raise UnsafePathError(
                        f"{action.path} is a link; syncd writes through no link and replaces none at a job's own to:",
                        path=action.path,
                        hint=f"write to: {os.path.realpath(action.path)} instead, or remove the link",
                    )
        with translated_errors("ask for room at"):
            check_free_space(actions, self.room_for_trash(actions))
            made = missing_parents(writes)
        refuse_lockout(actions, made)
        return made

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        folders: frozenset[str],
        looks: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        with translated_errors("write to"):
            batch = PlanWriter(
                intent,
                blobs,
                self.trash,
                self._clock.now,
                folders,
                looks,
                self._devices,
                kept,
                clock=self.kernel_clock,
            )
            return batch.run(actions)

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        with translated_errors("sweep"):
            return remove_temp_files(intent, folders)

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        return remove_empty_directories(folders)

    def open(self, path: str, root: str) -> BinaryIO:
        return open_current(path, root)

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        return resolve(folders)

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        with translated_errors("look at the mounts of"):
            return mount_points(folders)

    def is_same_file(self, one: str, other: str) -> bool:
        with translated_errors("look at"):
            return is_same_file(one, other)

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        with translated_errors("look at"):
            return other_spellings(paths)


def missing_parents(writes: Iterable[Action]) -> tuple[str, ...]:
    missing: set[str] = set()
    for parent in {posixpath.dirname(action.path) for action in writes}:
        path = parent
        stands = nearest_existing_dir(parent)
        while path != stands:
            missing.add(path)
            path = posixpath.dirname(path)
    return tuple(sorted(missing))
