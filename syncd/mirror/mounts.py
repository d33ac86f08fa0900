"""Find which mount a directory is on, and whether a mount that held files is gone.

Device numbers don't show this: a tmpfs, a renumbered disk or a new machine has other ones with
nothing amiss. The ledger records the mount point that each file was below, and a file is "gone
with its mount" only where nothing is mounted there any more.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from syncd.errors import MirrorError
from syncd.mirror.free_space import nearest_existing_dir
from syncd.models import LocalFile
from syncd.ports import Target

MOUNTS = Path("/proc/self/mountinfo")
ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(Struct, frozen=True):
    """One line of proc_pid_mountinfo(5): `root` is the folder of the file system that it shows."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    kind: str


def read_mounts() -> dict[int, Mount]:
    """Return the mounts of this process by their id. Raises OSError."""
    found = {}
    for line in MOUNTS.read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        number, parent, device, root, point = left.split()[:5]
        mount = Mount(
            int(number),
            int(parent),
            device.decode(),
            _text(root),
            _text(point),
            right.split()[0].decode(),
        )
        found[mount.id] = mount
    return found


def _text(field: bytes) -> str:
    return os.fsdecode(ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field))


def mount_point(folder: str, mounts: Mapping[int, Mount]) -> str:
    """Return the mount point of `folder`, or of its nearest existing parent. Raises OSError.

    A bind mount that shows the folder that would be there anyhow does not count: systemd makes
    one for each ReadWritePaths= of a unit, and a shell sees none of them. Nor does an automount
    point that has nothing mounted on it.
    """
    mount = mount_of(nearest_existing_dir(folder), mounts)
    while mount is not None and mount.parent in mounts:
        parent = mounts[mount.parent]
        if mount.kind != "autofs" and not _shows_the_same(mount, parent):
            break
        mount = parent
    return mount.point if mount is not None else "/"


def mount_of(folder: str, mounts: Mapping[int, Mount]) -> Mount | None:
    """Return the mount that the existing `folder` is on. Raises OSError."""
    return mounts.get(_mount_id(folder))


def _shows_the_same(mount: Mount, parent: Mount) -> bool:
    below = posixpath.relpath(mount.point, parent.point)
    there = posixpath.normpath(posixpath.join(parent.root, below))
    return mount.device == parent.device and mount.root == there


def _mount_id(folder: str) -> int:
    """Return the id in proc_pid_mountinfo(5). Source: proc_pid_fdinfo(5), `mnt_id`."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    return next(int(line[7:]) for line in facts.splitlines() if line.startswith("mnt_id:"))


def mount_points(folders: Iterable[str]) -> dict[str, str]:
    """Return the mount point of each directory, without those below `/`. Raises OSError."""
    mounts = read_mounts()
    found = {folder: mount_point(folder, mounts) for folder in folders}
    return {folder: point for folder, point in found.items() if point != "/"}


def check_mounts(
    targets: Mapping[str, Target], found: Mapping[str, LocalFile | None], job: str
) -> None:
    """Raise MirrorError when every file of a mount is absent and nothing is mounted there.

    The bare mount point must be neither filled nor taken for a deletion.
    """
    by_mount: dict[str, list[str]] = defaultdict(list)
    for path, target in targets.items():
        if target.recorded is not None and target.recorded.mount is not None:
            by_mount[target.recorded.mount].append(path)
    for point, paths in by_mount.items():
        if all(found.get(path) is None for path in paths) and _is_gone(point, paths):
            place = os.path.commonpath([posixpath.dirname(path) for path in paths])
            raise MirrorError(
                f"all {len(paths)} files below {place} are absent, and nothing is mounted at "
                f"{point}, where they were: the mount seems to be gone",
                id="mirror/mount-gone",
                path=place,
                hint=f"mount {point} again; if the files are meant to live here now: "
                f"syncd sync {job} --forget {job}",
            )


def _is_gone(point: str, paths: Iterable[str]) -> bool:
    """Return whether a folder of these files leads to where `point` was
    and is on another mount now.
    """
    mounts = read_mounts()
    return any(
        _is_within(os.path.realpath(folder), point)
        and not _is_within(mount_point(folder, mounts), point)
        for folder in {posixpath.dirname(path) for path in paths}
    )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
