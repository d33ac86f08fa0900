"""Remove what an interrupted run left, and directories that syncd made and that are empty now.

Temporary files and trial directories are known by their intent's id; a file with another name
is never removed, nor a directory that holds anything or that syncd did not make.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from syncd.errors import MirrorError, UnsafePathError
from syncd.folder_sync import sync_folder
from syncd.mirror.dirfd import (
    OPEN_DIR_NOFOLLOW,
    UNREACHABLE_ERRORS,
    DirectoryMissingError,
    InTheWayError,
    open_subdirectory,
    opened_directory,
)
from syncd.mirror.paths import names_below
from syncd.mirror.temp_names import TEMP_PREFIX

ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR)
NOT_EMPTY_ERRNOS = (errno.ENOTEMPTY, errno.EEXIST)


def remove_if_empty(root: str, path: str) -> bool:
    """Remove the directory if it is empty, and return whether it is gone now.

    False where it holds something or a link leads to it. A directory above `root` counts too:
    syncd may have made it for `to`. Raises OSError, MirrorError.
    """
    if not path.startswith(root.rstrip("/") + "/"):
        root = posixpath.dirname(path)
    try:
        _remove_directory(root, path)
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


def _remove_directory(root: str, path: str) -> None:
    """Remove an empty directory and sync the name's removal to disk. Raises OSError."""
    name = names_below(path, root)[-1]
    with opened_directory(root, posixpath.dirname(path)) as folder:
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            # A kernel that finds it read-only, immutable or mounted says that first; that it is
            # not empty is the reason why it stays.
            if _has_entries(folder, name, path):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY)) from error
            raise
        sync_folder(folder)


def _has_entries(folder: int, name: str, path: str) -> bool:
    try:
        inside = open_subdirectory(folder, name, path)
    except (DirectoryMissingError, MirrorError):
        return False
    try:
        return bool(os.listdir(inside))
    finally:
        os.close(inside)


def remove_empty_directories(folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Remove the empty ones of these (root, directory) pairs; return those that do not exist now.

    One that can't be removed stays: it is still ours and is tried again.
    """
    gone = []
    for root, path in sorted(folders, key=lambda pair: len(pair[1]), reverse=True):
        with suppress(OSError, MirrorError):
            if remove_if_empty(root, path):
                gone.append(path)
    return tuple(gone)


def remove_temp_files(intent: str, folders: Iterable[tuple[str, str]]) -> int:
    """Remove temporary files, links and trial directories of `intent`; return how many.

    Reads these (root, directory) pairs and touches nothing else. Raises MirrorError, OSError
    where one can't be read now: what was left there would be forgotten with its intent.
    """
    count = 0
    for root, path in folders:
        with suppress(*UNREACHABLE_ERRORS), opened_directory(root, path) as folder:
            for name in os.listdir(folder):
                if name.startswith(f"{TEMP_PREFIX}{intent}-"):
                    count += _remove_own(folder, name)
            sync_folder(folder)
    return count


def _remove_own(folder: int, name: str) -> bool:
    """Remove a file, link or trial directory of this user. Raises OSError."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if found.st_uid != os.geteuid():
        return False
    if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
        os.unlink(name, dir_fd=folder)
        return True
    return stat.S_ISDIR(found.st_mode) and remove_trial_dir(folder, name)


def remove_trial_dir(folder: int, name: str) -> bool:
    """Remove a trial directory (`case_sensitivity.py`) with its empty files; return whether.

    One that holds anything else stays. Raises OSError.
    """
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


def with_parents(path: str) -> Iterator[str]:
    """Yield the path itself and every directory above it except `/`."""
    while len(path) > 1:
        yield path
        path = posixpath.dirname(path)
