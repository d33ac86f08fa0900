"""A cache that the disk damages between the look at it and its use: nothing of it is written, and
what was damaged is fetched anew.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import syncd.engine.run as run_module
from syncd.models import RunStatus
from tests.fault.scene import Workbench


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (flip, "UPDATE content SET content = replace(content, substr(content, 1, 1), x'00')"),
    "a shorter file": (
        lambda file: os.truncate(file, 0),
        "UPDATE content SET content = zeroblob(0)",
    ),
    "no file": (Path.unlink, "DELETE FROM content"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_was_damaged_after_it_was_looked_at_is_not_written(
    monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    stage = run_module.stage

    def damaged(*arguments: Any) -> None:
        stage(*arguments)
        damage, statement = HARMS[harm]
        for file in (bench.scene.state / "blobs").glob("??/*"):
            if file.stat().st_size:
                damage(file)
        with closing(
            sqlite3.connect(bench.scene.state / "cache.db", isolation_level=None)
        ) as table:
            table.execute(
                f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} length(content) > 0"
            )

    with Workbench() as bench:
        bench.turn()
        monkeypatch.setattr(run_module, "stage", damaged)
        report = bench.scene.run()
        monkeypatch.undo()
        assert report.status is RunStatus.FAILED and report.error is not None
        assert "the cache" in report.error.message and "fetched" in (report.error.hint or ""), (
            report.error
        )
        assert bench.scene.shown_wrong() == []
        assert bench.scene.heal() == []
