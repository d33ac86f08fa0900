"""What a run leaves out is gone for good before what names it is forgotten."""

from __future__ import annotations

import os
from typing import Any

import pytest

from syncd.errors import ChangedUnderneathError
from syncd.mirror import write
from syncd.models import Action, RunStatus
from syncd.store.store import SqliteStore
from tests.fault.scene import Workbench


def test_a_temporary_file_that_gets_no_name_is_gone_on_disk_too_before_the_intent_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    real = {"unlink_if_there": write.unlink_if_there, "sync_folder": write.sync_folder}
    expected, record = write._check_expected, SqliteStore.record

    def noting(name: str) -> Any:
        def call(folder: int, *arguments: Any) -> None:
            told.append((name, os.readlink(f"/proc/self/fd/{folder}")))
            real[name](folder, *arguments)  # type: ignore[operator]

        return call

    def edited(folder: int, name: str, action: Action) -> bool:
        if name == "change":
            raise ChangedUnderneathError("somebody edits it again and again", path=action.path)
        return expected(folder, name, action)

    def recorded(store: SqliteStore, *arguments: Any) -> None:
        told.append(("record", ""))
        record(store, *arguments)

    with Workbench() as bench:
        bench.turn()
        for name in real:
            monkeypatch.setattr(write, name, noting(name))
        monkeypatch.setattr(write, "_check_expected", edited)
        monkeypatch.setattr(SqliteStore, "record", recorded)
        assert bench.scene.run().status is RunStatus.FAILED
        monkeypatch.undo()
        cleared = [index for index, (what, _) in enumerate(told) if what == "unlink_if_there"]
        assert cleared
        for index in cleared:
            following = told[index + 1 :]
            assert ("sync_folder", told[index][1]) in following[: following.index(("record", ""))]
        assert bench.scene.heal() == []
