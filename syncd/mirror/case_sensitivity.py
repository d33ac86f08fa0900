"""Find out whether the disk keeps apart names that some file systems merge.

It first checks the entries that exist, and where they do not answer, it tries. A trial makes the
very names in a private directory beside their destination: how names are compared differs between
file systems, and between directories of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncd.colliding_names import OpenDirectory, are_distinct
from syncd.errors import MirrorError
from syncd.folder_sync import sync_folder
from syncd.mirror.cleanup import remove_trial_dir
from syncd.mirror.dirfd import (
    OPEN_DIR_NOFOLLOW,
    UNREACHABLE_ERRORS,
    mirror_error,
    open_root,
    open_subdirectory,
)
from syncd.mirror.free_space import nearest_existing_dir
from syncd.mirror.paths import names_below
from syncd.mirror.temp_names import temp_name


def distinguishes_by_lookup(folder: str, names: Sequence[str], root: str) -> bool | None:
    """Return what the entries of `folder`, or of its nearest existing parent, show.

    None where they do not answer.
    """
    try:
        with _deepest_existing(folder, root) as (place, _):
            return are_distinct(OpenDirectory(place), names)
    except (OSError, MirrorError, *UNREACHABLE_ERRORS):
        return None  # nothing is known of what can't be looked at


def distinguishes_by_trial(folder: str, names: Sequence[str], root: str, intent: str) -> bool:
    """Return whether the names can exist side by side in a trial directory, and remove it.

    It is made in `folder` or its nearest existing parent. Raises MirrorError; what a crash leaves
    is removed with the intent.
    """
    with _deepest_existing(folder, root) as (place, path):
        name = temp_name(intent)
        try:
            os.mkdir(name, 0o700, dir_fd=place)
            try:
                return _creates_each_name(place, name, names)
            finally:
                remove_trial_dir(place, name)
                # Else a power cut brings it back when the intent that names it is gone.
                sync_folder(place)
        except OSError as error:
            raise mirror_error("try how names are compared in", path, error) from error


def _creates_each_name(place: int, trial: str, names: Sequence[str]) -> bool:
    inside = os.open(trial, OPEN_DIR_NOFOLLOW, dir_fd=place)
    try:
        for name in names:
            try:
                os.close(
                    os.open(
                        name,
                        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                        0o600,
                        dir_fd=inside,
                    )
                )
            except FileExistsError:
                return False
        return len(os.listdir(inside)) == len(names)
    finally:
        os.close(inside)


@contextmanager
def _deepest_existing(folder: str, root: str) -> Iterator[tuple[int, str]]:
    """Open the nearest existing directory on the way to `folder`, and yield it with its path.

    Below `root` no link is followed.
    """
    inside = folder.startswith(root.rstrip("/") + "/")
    start = root if inside else folder
    path = nearest_existing_dir(start)
    current = open_root(path)
    try:
        for name in names_below(folder, root) if inside and path == start else ():
            try:
                deeper = open_subdirectory(current, name, f"{path.rstrip('/')}/{name}")
            except UNREACHABLE_ERRORS:
                break  # what is in the way there is refused, or leaves, before anything is written
            os.close(current)
            current, path = deeper, f"{path.rstrip('/')}/{name}"
        yield current, path
    finally:
        os.close(current)
