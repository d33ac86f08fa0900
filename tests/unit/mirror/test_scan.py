"""Looking at destinations: the run's time bounds it, whatever the disk holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from syncd.errors import TimedOutError
from syncd.mirror.scan import CHUNK_BYTES, scan
from syncd.ports import Target


def too_late_after(calls: int) -> tuple[list[int], object]:
    """The calls so far, and a check that fails after so many."""
    made: list[int] = []

    def check() -> None:
        made.append(1)
        if len(made) > calls:
            raise TimedOutError("the run took longer than its timeout")

    return made, check


def test_a_large_file_is_read_only_as_long_as_the_run_may_take(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(64 * CHUNK_BYTES)
    made, check = too_late_after(3)
    targets = {f"{tmp_path}/large": Target(str(tmp_path), None, size=64 * CHUNK_BYTES)}
    with pytest.raises(TimedOutError):
        scan(targets, time.time_ns, check=check)  # type: ignore[arg-type]
    assert len(made) == 4, "one look at the folder, and one for each MiB that was read"


def test_many_folders_are_looked_at_only_as_long_as_the_run_may_take(tmp_path: Path) -> None:
    targets = {}
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        targets[f"{tmp_path}/{number}/file"] = Target(str(tmp_path), None)
    made, check = too_late_after(5)
    with pytest.raises(TimedOutError):
        scan(targets, time.time_ns, check=check)  # type: ignore[arg-type]
    assert len(made) == 6
