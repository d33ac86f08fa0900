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
from syncd.mirror.dirfd import NOT_THERE, OPEN_BELOW, InTheWayError, Missing, opened, step_down
from syncd.mirror.paths import below
from syncd.mirror.syscalls import sync_folder

PREFIX = ".syncd-"
GONE = (errno.ENOENT, errno.ENOTDIR)
IN_USE = (errno.ENOTEMPTY, errno.EEXIST)


def drop(root: str, path: str) -> bool:
    """Whether the folder is gone now (it was empty, or was gone before); False where it holds something or a link leads to it. Raises OSError, MirrorError."""
    try:
        is_above = not path.startswith(
            root.rstrip("/") + "/"
        )  # a folder above `to` that syncd made
        root = posixpath.dirname(path) if is_above else root
        names = below(path, root)
        with opened(root, names[:-1]) as folder:
            try:
                os.rmdir(names[-1], dir_fd=folder)
            except OSError:
                if _holds_something(folder, names[-1], path):
                    return False  # said first by a kernel that finds it read-only, immutable or mounted, but not why it stays
                raise
            sync_folder(folder)
    except Missing:
        return True
    except (InTheWayError, UnsafePathError):
        return False
    except OSError as error:
        if error.errno in GONE:
            return True
        if error.errno in IN_USE:
            return False
        raise
    return True


def _holds_something(folder: int, name: str, path: str) -> bool:
    try:
        below_it = step_down(folder, name, path)
    except (Missing, MirrorError):
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
            if drop(root, path):
                gone.append(path)
        except (OSError, MirrorError):
            continue  # an empty folder too many harms nobody; it stays ours and is tried again
    return tuple(gone)


def remove_temp_files(intent: str, folders: Iterable[tuple[str, str]]) -> int:
    """Temporary files, links and trial folders of `intent` in these (root, folder) pairs are gone; how many. Nothing else is touched.

    Raises MirrorError, OSError where a folder can't be looked into now: what was left there would otherwise be forgotten with its intent.
    """
    count = 0
    start = f"{PREFIX}{intent}-"
    for root, path in folders:
        with (
            suppress(*NOT_THERE),
            opened(root, below(path, root) if path != root else ()) as folder,
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
                    count += remove_trial(folder, name)
            sync_folder(folder)
    return count


def remove_trial(folder: int, name: str) -> bool:
    """Whether a trial folder (`apart.py`) is gone, with the empty files in it; one that holds anything else stays. Raises OSError."""
    inside = os.open(name, OPEN_BELOW, dir_fd=folder)
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
        if error.errno in IN_USE:
            return False
        raise
    return True


def above(path: str) -> Iterable[str]:
    """The path itself and every folder above it, but for `/`."""
    while len(path) > 1:
        yield path
        path = posixpath.dirname(path)
