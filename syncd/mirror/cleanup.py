"""What an interrupted run left: its temporary files and trial folders, known by its intent's id, and folders that syncd made and that hold nothing any more.

A folder that holds anything, or that somebody else made, never goes; nor does a file with another name than ours.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable
from contextlib import suppress

from syncd.errors import MirrorError, UnsafePathError
from syncd.mirror.dirfd import (
    OPEN_DIR_NOFOLLOW,
    UNREACHABLE_ERRORS,
    DirectoryMissingError,
    InTheWayError,
    open_subdirectory,
    opened_directory,
)
from syncd.mirror.paths import names_below
from syncd.mirror.syscalls import sync_folder

TEMP_PREFIX = ".syncd-"
ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR)
NOT_EMPTY_ERRNOS = (errno.ENOTEMPTY, errno.EEXIST)


def remove_if_empty(root: str, path: str) -> bool:
    """Whether the folder is gone now (it was empty, or was gone before); False where it holds something or a link leads to it. Raises OSError, MirrorError."""
    try:
        is_above = not path.startswith(
            root.rstrip("/") + "/"
        )  # a folder above `to` that syncd made
        root = posixpath.dirname(path) if is_above else root
        names = names_below(path, root)
        with opened_directory(root, names[:-1]) as folder:
            try:
                os.rmdir(names[-1], dir_fd=folder)
            except OSError:
                if _has_entries(folder, names[-1], path):
                    return False  # said first by a kernel that finds it read-only, immutable or mounted, but not why it stays
                raise
            sync_folder(folder)
    except DirectoryMissingError:
        return True
    except (InTheWayError, UnsafePathError):
        return False
    except OSError as error:
        if error.errno in ABSENT_ERRNOS:
            return True
        if error.errno in NOT_EMPTY_ERRNOS:
            return False
        raise
    return True


def _has_entries(folder: int, name: str, path: str) -> bool:
    try:
        below_it = open_subdirectory(folder, name, path)
    except (DirectoryMissingError, MirrorError):
        return False
    try:
        return bool(os.listdir(below_it))
    finally:
        os.close(below_it)


def remove_empty_directories(folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Which of these (root, folder) pairs do not stand any more, the empty ones because they were removed now. What can't be removed stays."""
    gone = []
    for root, path in sorted(folders, key=lambda pair: len(pair[1]), reverse=True):
        try:
            if remove_if_empty(root, path):
                gone.append(path)
        except (OSError, MirrorError):
            continue  # an empty folder too many harms nobody; it stays ours and is tried again
    return tuple(gone)


def remove_temp_files(intent: str, folders: Iterable[tuple[str, str]]) -> int:
    """Temporary files, links and trial folders of `intent` in these (root, folder) pairs are gone; how many. Nothing else is touched.

    Raises MirrorError, OSError where a folder can't be looked into now: what was left there would otherwise be forgotten with its intent.
    """
    count = 0
    start = f"{TEMP_PREFIX}{intent}-"
    for root, path in folders:
        with (
            suppress(*UNREACHABLE_ERRORS),
            opened_directory(root, names_below(path, root) if path != root else ()) as folder,
        ):
            for name in os.listdir(folder):
                if not name.startswith(start):
                    continue
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if found.st_uid == os.geteuid() and (
                    stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
                ):
                    os.unlink(name, dir_fd=folder)
                    count += 1
                elif found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
                    count += remove_trial_dir(folder, name)
            sync_folder(folder)
    return count


def remove_trial_dir(folder: int, name: str) -> bool:
    """Whether a trial folder (`apart.py`) is gone, with the empty files in it; one that holds anything else stays. Raises OSError."""
    inside = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
    try:
        for one in os.listdir(inside):
            found = os.stat(one, dir_fd=inside, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_size == 0:
                os.unlink(one, dir_fd=inside)
    finally:
        os.close(inside)
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno in NOT_EMPTY_ERRNOS:
            return False
        raise
    return True


def with_parents(path: str) -> Iterable[str]:
    """The path itself and every folder above it, but for `/`."""
    while len(path) > 1:
        yield path
        path = posixpath.dirname(path)
