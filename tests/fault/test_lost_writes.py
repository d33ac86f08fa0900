"""A disk that loses what it was given, after it was given it: nothing that was lost counts as
written, whoever is told of it first.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.errors import MirrorError
from syncd.git_objects import blob_id
from syncd.mirror.syscalls import syncfs
from syncd.mirror.trash import Trash
from syncd.mirror.write import PlanWriter
from syncd.models import Action, ActionKind, Kind, WantedFile
from syncd.store.blobs import BlobCache
from tests.fault.mounts import no_root, privately, shell

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MIB = 1 << 20
FOLDERS, NAMES, HELD = 4, 40, 20 * MIB


@contextmanager
def thin_disk(folder: Path) -> Iterator[Path]:
    """An ext4 file system with room for contents that its disk has not: what is one too many is
    lost when it is written back, and nothing else is.
    """
    backing, place = folder / "backing", folder / "place"
    backing.mkdir()
    place.mkdir()
    shell("mount", "-t", "tmpfs", "-o", "size=100M", "none", backing)
    try:
        for make in (
            ["truncate", "-s", 90 * MIB],
            ["mkfs.ext4", "-q"],
            ["fallocate", "-l", 90 * MIB],
        ):  # last, because mkfs makes holes of what is zero
            shell(*make, backing / "image")
        shell("mount", "-o", "loop", backing / "image", place)
        try:
            for number in range(FOLDERS):
                (place / f"top/d{number}").mkdir(parents=True)
                for name in range(NAMES):  # so that names have their blocks already
                    (place / f"top/d{number}/before{name}").touch()
            shell("fstrim", place)  # what holds nothing is not on the disk any more
            room = os.statvfs(backing)
            shell("fallocate", "-l", room.f_bavail * room.f_frsize - HELD, backing / "filler")
            yield place / "top"
        finally:
            shell("umount", place)
    finally:
        shell("umount", backing)


@contextmanager
def over(disk: Path, folder: Path) -> Iterator[Path]:
    """What a container sees of that disk."""
    for made in (folder / "lower", folder / "merged", disk.parent / "work"):
        made.mkdir()
    shell(
        "mount",
        "-t",
        "overlay",
        "-o",
        f"lowerdir={folder / 'lower'},upperdir={disk},workdir={disk.parent / 'work'}",
        "none",
        folder / "merged",
    )
    try:
        yield folder / "merged"
    finally:
        shell("umount", folder / "merged")


def wrong_after(
    folder: Path, count: int, overlay: bool, told_to_others: bool, forgotten: bool
) -> list[str]:
    """What counts as written and, read from the disk again, is not what was written;
    or why this shows nothing.
    """
    draw = random.Random(1)
    contents = [draw.randbytes(40 * MIB // count) for _ in range(count)]
    cache = BlobCache(folder / "blobs")
    for content in contents:
        cache.add(blob_id(content), [content], len(content))
    told: list[bool] = []
    with thin_disk(folder) as disk, over(disk, folder) if overlay else nullcontext(disk) as place:

        class Meanwhile(PlanWriter):
            def _stage(self, actions: Iterable[Action]) -> None:
                super()._stage(actions)
                if self.staged and not told:
                    told.append(told_to_others and is_told_of_a_loss(disk))
                    if forgotten:
                        lose_what_memory_may()

        entries = {
            f"{place}/d{number % FOLDERS}/f{number}": WantedFile(
                blob_id(content), 0o644, Kind.FILE, size=len(content), root=str(place)
            )
            for number, content in enumerate(contents)
        }
        actions = [
            Action(ActionKind.WRITE, path, entry, None, None, "new")
            for path, entry in entries.items()
        ]
        batch = Meanwhile(
            "0" * 12, cache, Trash(folder / "trash"), lambda: datetime.now(UTC), frozenset()
        )
        # where not even its temporary files can be cleared up, the intent stays and the next run
        # looks again
        with suppress(MirrorError):
            batch.run(actions)
        lose_what_memory_may()
        wrong = [
            path
            for path in entries
            if path in batch.outcomes
            and batch.outcomes[path].error is None
            and not holds(path, entries[path].blob)
        ]
    return (
        wrong
        + ([] if told == [told_to_others] else ["this disk loses nothing"])
        + ([] if any(one.error for one in batch.outcomes.values()) else ["nobody was told"])
    )


def lose_what_memory_may() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3")


def is_told_of_a_loss(disk: Path) -> bool:
    """Another's sync of the whole file system, another job's, say."""
    folder = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(folder)
    except OSError:
        return True
    finally:
        os.close(folder)
    return False


def holds(path: str, blob: str) -> bool:
    try:
        return blob_id(Path(path).read_bytes()) == blob
    except OSError:
        return False


@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
@pytest.mark.parametrize("told_to_others", [False, True], ids=["untold", "told"])
@pytest.mark.parametrize("overlay", [False, True], ids=["disk", "overlay"])
@pytest.mark.parametrize("count", [8, 40])
def test_what_a_disk_lost_on_the_way_never_counts_as_written(
    tmp_path: Path, count: int, overlay: bool, told_to_others: bool, forgotten: bool
) -> None:
    if no_root():
        pytest.skip("needs root")
    assert privately(lambda: wrong_after(tmp_path, count, overlay, told_to_others, forgotten)) == []
