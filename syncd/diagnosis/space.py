"""Judges free space and inodes against what the jobs would still write. Pure but for `statvfs`."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from syncd.diagnosis.finding import Finding, error, ok, warning
from syncd.mirror.destination_facts import Space, space_at
from syncd.mirror.free_space import nearest_existing_dir
from syncd.models import WantedFile

BLOCK_BYTES = 4096
MARGIN_BYTES = 1 << 20
LOW_SHARE = 0.02  # of a file system


class Need(Struct, frozen=True):
    """What is still to be written to one file system: `place` names it."""

    place: str
    space: Space
    size_bytes: int
    files: int


def check_space(state: Path, missing: Mapping[str, WantedFile]) -> Iterator[Finding]:
    """Yield each file system that lacks the room for the `missing` files, destination -> file.

    They are written to their destinations and kept in the cache of the state folder. Raises
    OSError.
    """
    for need in needs(state, missing):
        if need.space.total_bytes:  # the kernel's own file systems have none
            yield judge(need)


def needs(state: Path, missing: Mapping[str, WantedFile]) -> list[Need]:
    """Return what each file system is to take. Raises OSError."""
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    cache = nearest_existing_dir(str(state))
    sizes[cache] += 0
    for path, wanted in missing.items():
        size = -(-(wanted.size or 0) // BLOCK_BYTES) * BLOCK_BYTES
        for place in (nearest_existing_dir(posixpath.dirname(path)), cache):
            sizes[place] += size
            files[place] += 1
    by_device: dict[int, Need] = {}
    for place, size in sizes.items():
        space = space_at(place)
        before = by_device.get(space.device, Need(place, space, 0, 0))
        by_device[space.device] = Need(
            before.place, space, before.size_bytes + size, before.files + files[place]
        )
    return list(by_device.values())


def judge(need: Need) -> Finding:
    """Return the finding about one file system."""
    space, place = need.space, need.place
    free = f"{size_text(space.free_bytes)} are free at {place}"
    wanted = f"{size_text(need.size_bytes)} are still to be written"
    margin = min(MARGIN_BYTES, space.total_bytes // 100)  # as a run keeps
    if need.size_bytes + margin > space.free_bytes:
        return error(
            "doctor/no-space",
            "space",
            f"{free}, and {wanted}, with a margin of {size_text(margin)}",
            f"free some space: df -h {place}",
        )
    if space.free_inodes is not None and need.files >= space.free_inodes:
        return error(
            "doctor/no-inodes",
            "space",
            f"inodes at {place}: {space.free_inodes:,} free, {need.files:,} needed for the files"
            " that are still to be written",
            f"remove some files: df -i {place}",
        )
    if space.free_bytes < space.total_bytes * LOW_SHARE:
        return warning(
            "doctor/low-space", "space", f"only {free}; {wanted}", f"free some space: df -h {place}"
        )
    return ok("doctor/space", "space", f"{free}; {wanted}")


def size_text(size_bytes: int) -> str:
    """Return a size to its largest unit, such as `5.0 MiB`."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:,.1f} {units[0]}"
