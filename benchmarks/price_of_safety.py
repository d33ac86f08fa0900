"""What it costs that a power cut can't hurt: 1,000 files of 4 KB written by syncd's own writer,
beside the same files written by hand.

    python benchmarks/price_of_safety.py [FOLDER]

By hand without any sync (what most scripts do: a power cut leaves empty files), and with a sync of
every file and of its folder after it (safe, and as slow as it sounds). syncd writes all, syncs the
file system once, renames all, and syncs each folder once. FOLDER lies on the disk that is meant.
The three take turns, so that all meet the same weather; the median counts, and the best turn says
what a busy machine hides.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from syncd.clock import SystemClock
from syncd.git_objects import blob_id
from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import Action, ActionKind, WantedFile
from syncd.store.blobs import BlobCache

FILES, SIZE_BYTES, TURNS = 1000, 4096, 5


def contents() -> dict[str, bytes]:
    return {
        f"{number:04d}.conf": (b"%d\n" % number).ljust(SIZE_BYTES, b"x") for number in range(FILES)
    }


def by_syncd(folder: Path, files: dict[str, bytes], blobs: BlobCache) -> None:
    entries = {
        name: WantedFile(blob_id(content), 0o644, root=str(folder), size=len(content))
        for name, content in files.items()
    }
    actions = [
        Action(ActionKind.WRITE, f"{folder}/{name}", entry, None, None, "new")
        for name, entry in entries.items()
    ]
    applied = DiskMirror(folder.parent / "trash", SystemClock()).apply(
        "0123456789ab", actions, blobs, frozenset(), {}
    )
    if any(outcome.error is not None for outcome in applied.outcomes.values()):
        raise SystemExit("the writer failed; is there room?")


def without_sync(folder: Path, files: dict[str, bytes], _blobs: BlobCache) -> None:
    for name, content in files.items():
        temporary = folder / f".{name}"
        temporary.write_bytes(content)
        temporary.rename(folder / name)


def with_each_synced(folder: Path, files: dict[str, bytes], _blobs: BlobCache) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for name, content in files.items():
        temporary = folder / f".{name}"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / name)
        os.fsync(descriptor)
    os.close(descriptor)


WAYS: dict[str, Callable[[Path, dict[str, bytes], BlobCache], None]] = {
    "no sync at all": without_sync,
    "syncd, safe": by_syncd,
    "each file and its folder synced": with_each_synced,
}


def measure(place: Path) -> dict[str, list[float]]:
    """Way -> the seconds of each of its turns."""
    files = contents()
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    blobs = BlobCache(place / "blobs")
    for content in files.values():
        blobs.add(blob_id(content), [content], len(content))
    for _ in range(TURNS):
        for name, write in WAYS.items():
            folder = place / "written"
            folder.mkdir()
            os.sync()  # nobody pays for another's leftovers
            began = time.perf_counter()
            write(folder, files, blobs)
            spent[name].append(time.perf_counter() - began)
            shutil.rmtree(folder)
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory(
        dir=sys.argv[1] if len(sys.argv) > 1 else "/var/tmp", prefix="syncd-price-"
    ) as place:
        spent = measure(Path(place))
    ours = statistics.median(spent["syncd, safe"])
    print(f"{FILES:,} files of {SIZE_BYTES:,} bytes, {TURNS} turns each")
    for name, turns in spent.items():
        median = statistics.median(turns)
        print(
            f"{name:<34} median {median:7.3f} s   best {min(turns):7.3f} s   "
            f"{median / FILES * 1000:6.3f} ms a file   {median / ours:6.2f} × syncd"
        )


if __name__ == "__main__":
    main()
