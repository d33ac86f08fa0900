"""Walks a folder, and removes one, by descriptors: the one place that goes down into folders.

Each step is openat(2) with O_NOFOLLOW from the folder that is open, so no link is followed and no
length of a path matters. Nothing recurses, and two descriptors are open at most, however deep the
tree is: the way up is `..`, whose device and inode must be those of the folder that was left. What
another process moves meanwhile ends the walk instead of leading it elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from syncd.errors import MirrorError

OPEN_DIR_NOFOLLOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 100  # one inside the other, in a repository or in `to:` or `from:`
MAX_WALK_DEPTH = (
    2_047  # no path of more than 4,095 bytes leads through more: nothing of ours is deeper
)
NAMES_PER_BATCH = 64  # of a folder that is being emptied: what is kept for each level
OWNER_RWX = stat.S_IRWXU

Check = Callable[[], None]


class Step(NamedTuple):
    """An entry that a walk met: `name` in the open `folder`; `names` lead to that folder."""

    folder: int
    names: tuple[str, ...]
    name: str
    found: os.stat_result

    @property
    def path(self) -> str:
        """Return the path relative to the top of the walk."""
        return "/".join((*self.names, self.name))

    @property
    def is_folder(self) -> bool:
        """Return whether it is a directory itself, and no link to one."""
        return stat.S_ISDIR(self.found.st_mode)


def no_check() -> None:
    """Do nothing: the `check` of a walk that no deadline ends."""


def time_limit(seconds: float) -> Check:
    """Return a `check` that raises OSError ETIMEDOUT after so many seconds from now."""
    ends_at = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > ends_at:
            raise OSError(errno.ETIMEDOUT, f"it takes longer than {seconds:g} s")

    return check


def walk(
    top: int,
    path: str,
    check: Check = no_check,
    enters: Callable[[Step], bool] = lambda _: True,
    deepest: int = MAX_WALK_DEPTH,
) -> Iterator[Step]:
    """Yield everything below the open directory `top`, each directory right before its entries.

    They come by name. `path` is the directory's path, for messages. `check` is called for each
    entry and may raise. Directories for which `enters` is false are not entered. The directory of a
    step is open until the next step is asked for. Raises MirrorError below more than `deepest`
    directories, OSError.
    """
    way = DirCursor(top)
    levels = [_names_in(way)]
    try:
        while levels:
            name = next(levels[-1], None)
            if name is None:
                levels.pop()
                if levels:
                    way.up()
                continue
            check()
            found = _lstat(way, name)
            if found is None:
                continue
            step = Step(way.folder, tuple(way.names), name, found)
            yield step
            if step.is_folder and enters(step):
                if len(levels) > deepest:
                    raise too_deep_error(path, [*step.names, name], deepest)
                if way.down(name):
                    levels.append(_names_in(way))
    finally:
        way.close()


def _names_in(way: DirCursor) -> Iterator[str]:
    return iter(sorted(os.listdir(way.folder)))


def too_deep_error(path: str, names: Sequence[str], deepest: int) -> MirrorError:
    """Return the error for a directory that `names` lead to from `path`: it is too deep."""
    start = "/".join(names[:3])
    return MirrorError(
        f"{path}/{start}/… is nested deeper than {deepest} folders, and syncd goes no further",
        id="mirror/too-deep",
        path=f"{path}/{start}",
        hint=f"find what made it, and move {path}/{names[0]} away or remove it",
    )


def _lstat(way: DirCursor, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=way.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None  # it has just gone


def remove(parent: int, name: str, check: Check = no_check) -> None:
    """Remove `name` in the open folder `parent`, with all that is below it, however deep.

    Links are removed, not followed. Modes that keep us out of a folder of ours are changed, by
    descriptor. Another file system that is mounted in it is left, as OSError EXDEV. What is not
    there is removed already. `check` is called for each entry. Raises OSError.
    """
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        way = DirCursor(parent)
    except FileNotFoundError:
        return
    try:
        if way.down(name, may_change=True, device=found.st_dev):
            _empty(way, found.st_dev, check)
            way.up()
            os.rmdir(name, dir_fd=parent)
    finally:
        way.close()


def _empty(way: DirCursor, device: int, check: Check) -> None:
    """Remove everything in the open folder. Raises OSError."""
    levels = [list[str]()]  # folders that were seen at each level and are still to be emptied
    while True:
        if not levels[-1]:
            levels[-1] = _unlink_files(way, check)
        if levels[-1]:
            if way.down(levels[-1].pop(), may_change=True, device=device):
                levels.append([])
        elif len(levels) > 1:
            levels.pop()
            name = way.up()
            with suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=way.folder)
        else:
            return


def _unlink_files(way: DirCursor, check: Check) -> list[str]:
    """Remove the files and return some folders of the open folder.

    Where there are none, it is empty now.
    """
    while True:
        with os.scandir(way.folder) as entries:
            names = [entry.name for entry in islice(entries, NAMES_PER_BATCH)]
        folders = []
        for name in names:
            check()
            found = _lstat(way, name)
            if found is not None and stat.S_ISDIR(found.st_mode):
                folders.append(name)
            elif found is not None:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=way.folder)
        if folders or not names:
            return folders


class DirCursor:
    """The way down from a folder that is open, and back up. Holds one descriptor."""

    def __init__(self, top: int) -> None:
        self.folder = os.open(".", OPEN_DIR_NOFOLLOW, dir_fd=top)
        self.names: list[str] = []
        self._above: list[tuple[int, int]] = []

    def down(self, name: str, may_change: bool = False, device: int | None = None) -> bool:
        """Enter the directory `name`; return False where there is none (any more).

        With `may_change`, its mode is changed so that its owner can empty it. Raises OSError.
        """
        try:
            below = _open_subdirectory(self.folder, name, may_change)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:
                return False  # a link has taken its place
            raise
        found = os.fstat(below)
        if device is not None and found.st_dev != device:
            os.close(below)
            raise OSError(errno.EXDEV, "another file system is mounted there", name)
        self._above.append(_identity(os.fstat(self.folder)))
        os.close(self.folder)
        self.folder = below
        self.names.append(name)
        return True

    def up(self) -> str:
        """Go back to the folder above; the name of the one that was left. Raises OSError."""
        above = os.open("..", OPEN_DIR_NOFOLLOW, dir_fd=self.folder)
        os.close(self.folder)
        self.folder = above
        name = self.names.pop()
        if _identity(os.fstat(above)) != self._above.pop():
            raise OSError(errno.ESTALE, "it was moved while syncd was at work in it", name)
        return name

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.folder)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _open_subdirectory(folder: int, name: str, may_change: bool) -> int:
    """Return a descriptor of the folder, whose owner may empty it where that is asked."""
    try:
        below = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
    except PermissionError:
        if not may_change:
            raise
        return _open_after_chmod(folder, name)
    found = os.fstat(below)
    if may_change and found.st_mode & OWNER_RWX != OWNER_RWX:
        with suppress(
            PermissionError
        ):  # not ours: what is in it can perhaps be removed all the same
            os.fchmod(below, OWNER_RWX)
    return below


def _open_after_chmod(folder: int, name: str) -> int:
    """Open a folder of ours whose mode keeps us out. fchmod(2) refuses a descriptor of O_PATH."""
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{held}", OWNER_RWX)
        below = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
        if _identity(os.fstat(below)) != _identity(os.fstat(held)):
            os.close(below)
            raise OSError(errno.ESTALE, "it was replaced while syncd was at work in it", name)
        return below
    finally:
        os.close(held)
