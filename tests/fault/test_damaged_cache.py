"""A cache that the disk damages between the look at it and its use: nothing of it is written, and what was damaged is fetched anew."""

from __future__ import annotations

import os
from collections.abc import Callable
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


HARMS: dict[str, Callable[[Path], object]] = {"a bit": flip, "a shorter file": lambda file: os.truncate(file, 0), "no file": Path.unlink}


@pytest.mark.parametrize("harm", HARMS)
def test_what_was_damaged_after_it_was_looked_at_is_not_written(monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    stage = run_module.stage

    def damaged(*arguments: Any) -> None:
        stage(*arguments)
        for file in [*(bench.scene.state / "blobs").glob("??/*"), *(bench.scene.state / "blobs").glob("packs/*.pack")]:
            if file.stat().st_size:
                HARMS[harm](file)

    with Workbench() as bench:
        bench.turn()
        monkeypatch.setattr(run_module, "stage", damaged)
        report = bench.scene.run()
        monkeypatch.undo()
        assert report.status is RunStatus.FAILED and report.error is not None
        assert "the cache" in report.error.message and "fetched" in (report.error.hint or ""), report.error
        assert bench.scene.shown_wrong() == []
        assert bench.scene.heal() == []
