"""Sync the names in a directory to disk, reliably.

XFS reports success for the sync of a directory for which nothing waits to be written, even where
nothing waits because the disk has failed and the journal was given up: what was done in the
directory is lost then. But nothing on such a file system can be opened any more. So the directory
is opened once more after every sync: what opens then was on a living file system before.
Source: Linux, fs/xfs/xfs_file.c, xfs_dir_fsync and xfs_dir_open; seen with a file system that was
shut down during a run.
"""

from __future__ import annotations

import os


def sync_folder(folder: int) -> None:
    """Sync the names that were made, changed and removed in the open `folder`. Raises OSError."""
    os.fsync(folder)
    check_alive(folder)


def sync_folder_at(path: str) -> None:
    """Sync the names in the folder at `path`. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_folder(folder)
    finally:
        os.close(folder)


def check_alive(folder: int) -> None:
    """Raise OSError where the file system of the open `folder` was given up."""
    os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder))


__all__ = ["check_alive", "sync_folder", "sync_folder_at"]
