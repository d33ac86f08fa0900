"""Check free space and inodes before the first byte is written.

So a full disk leaves the old set instead of half of the new one.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable
from functools import cache

from syncd.errors import MirrorError
from syncd.models import Action, ActionKind, Kind

MARGIN_BYTES = 1 << 20
BLOCK_BYTES = 4096


def check_free_space(actions: Iterable[Action], copies: Iterable[tuple[str, int]] = ()) -> None:
    """Raise MirrorError when a file system lacks the bytes or inodes that the writes need.

    Old and new files exist side by side for a time. `copies` are the directories and sizes of files
    that are copied, whatever the actions are.
    """
    needed: Counter[str] = Counter()
    inodes: Counter[str] = Counter()
    existing = cache(nearest_existing_dir)  # thousands of files have tens of folders
    for folder, size in copies:
        needed[existing(folder)] += _rounded(size)
        inodes[existing(folder)] += 1
    for action in actions:
        if action.kind in (ActionKind.WRITE, ActionKind.RESTORE) and action.wanted is not None:
            place = existing(posixpath.dirname(action.path))
            size = 0 if action.wanted.kind is Kind.LINK else action.wanted.size or 0
            needed[place] += _rounded(size)
            inodes[place] += 1
    by_device: dict[int, list[str]] = {}
    for place in needed:
        by_device.setdefault(os.stat(place).st_dev, []).append(place)
    for places in by_device.values():
        _check(
            places[0],
            sum(needed[place] for place in places),
            sum(inodes[place] for place in places),
        )


def _rounded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _check(place: str, needed_bytes: int, needed_inodes: int) -> None:
    free = os.statvfs(place)
    free_bytes = free.f_bavail * free.f_frsize
    margin = min(MARGIN_BYTES, free.f_blocks * free.f_frsize // 100)
    # a file system without blocks has no limit (tmpfs with size=0), or does not say it (FUSE)
    if free.f_blocks and needed_bytes + margin > free_bytes:
        raise MirrorError(
            f"no space: {needed_bytes} bytes are needed at {place}, {free_bytes} are free",
            id="mirror/no-space",
            path=place,
            hint="free some space; the next run continues by itself",
        )
    if free.f_files and needed_inodes > free.f_favail:
        raise MirrorError(
            f"no inodes: {needed_inodes} are needed at {place}, {free.f_favail} are free",
            id="mirror/no-inodes",
            path=place,
            hint="remove some files; the next run continues by itself",
        )


def nearest_existing_dir(path: str) -> str:
    """Return the nearest existing directory of `path`. Raises OSError where the disk can't say."""
    while True:
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            pass
        path = posixpath.dirname(path) or "/"
