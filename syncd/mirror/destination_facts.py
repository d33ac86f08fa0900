"""Facts about the place of a destination: its file system, mounts and free space.

Nothing is written, and nothing is judged here.
"""

from __future__ import annotations

import os
from contextlib import suppress

from msgspec import Struct

from syncd.mirror.free_space import nearest_existing_dir
from syncd.mirror.mounts import mount_of, read_mounts


class Space(Struct, frozen=True):
    """What one file system has left. `free_inodes` is None where it has no fixed number of them."""

    device: int
    free_bytes: int
    free_inodes: int | None
    total_bytes: int = 0


class DestinationFacts(Struct, frozen=True):
    """The place of one destination folder.

    `folder` is where files are made, `existing` its nearest existing parent or itself.
    `file_system` is the kernel's name of the type, such as `ext4`; `mount` is where it is mounted.
    `mounted_files` are the files below `folder` that are mounts of their own.
    """

    folder: str
    existing: str
    file_system: str
    mount: str
    read_only: bool
    mounted_files: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Return whether the folder exists."""
        return self.existing == self.folder


def destination_facts(folder: str) -> DestinationFacts:
    """Return the facts about the folder. Raises OSError where the disk or the kernel can't say."""
    existing = nearest_existing_dir(folder)
    mounts = read_mounts()
    mount = mount_of(existing, mounts)
    below = sorted(
        one.point for one in mounts.values() if one.point.startswith(folder.rstrip("/") + "/")
    )
    return DestinationFacts(
        folder,
        existing,
        mount.kind if mount is not None else "",
        mount.point if mount is not None else "/",
        is_read_only(existing),
        tuple(point for point in below if os.path.isfile(point)),
    )


def is_read_only(path: str) -> bool:
    """Return whether the path is mounted read-only in this mount namespace. Raises OSError."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def is_read_only_for(pid: int, path: str) -> bool | None:
    """Return whether the process `pid` sees the path read-only, as in a sandbox of systemd.

    None where it is not known: no such process, another user's, or it does not see the path.
    Source: proc(5), `/proc/PID/root`.
    """
    with suppress(OSError):
        return is_read_only(f"/proc/{pid}/root{path}")
    return None


def space_at(path: str) -> Space:
    """Return what the file system of the existing `path` has left. Raises OSError."""
    found = os.statvfs(path)
    return Space(
        os.stat(path).st_dev,
        found.f_bavail * found.f_frsize,
        found.f_favail if found.f_files else None,
        found.f_blocks * found.f_frsize,
    )


__all__ = [
    "DestinationFacts",
    "Space",
    "destination_facts",
    "is_read_only",
    "is_read_only_for",
    "space_at",
]
