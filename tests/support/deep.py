"""Folders one inside the other, deeper than a path can name."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.tree_walk import OPEN_DIR_NOFOLLOW, remove


def dig(folder: Path, depth: int) -> None:
    """Folders one inside the other, with a file in the last."""
    current = os.open(folder, OPEN_DIR_NOFOLLOW)
    for _ in range(depth):
        os.mkdir("d", 0o700, dir_fd=current)
        below = os.open("d", OPEN_DIR_NOFOLLOW, dir_fd=current)
        os.close(current)
        current = below
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)


def clear(folder: Path) -> None:
    """Remove a folder, however deep it is."""
    above = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove(above, folder.name)
    finally:
        os.close(above)
