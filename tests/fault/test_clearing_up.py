"""What a run leaves out is gone for good before what names it is forgotten."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from syncd.errors import ChangedUnderneathError
from syncd.mirror import cleanup, filesystem_sync, trash, write
from syncd.models import Action, RunStatus
from syncd.store.store import SqliteStore
from tests.fault.families import MANY
from tests.fault.scene import Workbench


def test_a_temporary_file_that_gets_no_name_is_gone_on_disk_too_before_the_intent_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, str]] = []
    real = {"unlink_if_there": write.unlink_if_there, "sync_folder": write.sync_folder}
    expected, record = trash.check_expected, SqliteStore.record

    def noting(name: str) -> Any:
        def call(folder: int, *arguments: Any) -> None:
            told.append((name, os.readlink(f"/proc/self/fd/{folder}")))
            real[name](folder, *arguments)  # type: ignore[operator]

        return call

    def edited(folder: int, name: str, action: Action, now_ns: Callable[[], int]) -> bool:
        if name == "change":
            raise ChangedUnderneathError("somebody edits it again and again", path=action.path)
        return expected(folder, name, action, now_ns)

    def recorded(store: SqliteStore, *arguments: Any) -> None:
        told.append(("record", ""))
        record(store, *arguments)

    with Workbench() as bench:
        bench.turn()
        for name in real:
            monkeypatch.setattr(write, name, noting(name))
        monkeypatch.setattr(trash, "check_expected", edited)
        monkeypatch.setattr(SqliteStore, "record", recorded)
        assert bench.scene.run().status is RunStatus.FAILED
        monkeypatch.undo()
        cleared = [index for index, (what, _) in enumerate(told) if what == "unlink_if_there"]
        assert cleared
        for index in cleared:
            following = told[index + 1 :]
            assert ("sync_folder", told[index][1]) in following[: following.index(("record", ""))]
        assert bench.scene.heal() == []


@pytest.mark.parametrize("extra", [0, MANY])
def test_names_whose_sync_fails_keep_the_intent_because_a_power_cut_may_take_them_back(
    monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    """The mirror's disk dies between a rename and its sync, and the store's does not: what was a
    name is a temporary file again.
    """
    renamed: list[tuple[str, str, str]] = []
    rename = write.rename_noreplace

    def named(folder: int, old: str, new: str) -> None:
        rename(folder, old, new)
        renamed.append((os.readlink(f"/proc/self/fd/{folder}"), old, new))

    def dying(sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(folder: int) -> None:
            if renamed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(folder)

        return synced

    with Workbench(extra) as bench:
        bench.turn()
        monkeypatch.setattr(write, "rename_noreplace", named)
        for module, name in (
            (write, "sync_folder"),
            (filesystem_sync, "syncfs"),
            (cleanup, "sync_folder"),
        ):
            monkeypatch.setattr(module, name, dying(getattr(module, name)))
        assert bench.scene.run().status is RunStatus.FAILED
        monkeypatch.undo()
        assert renamed
        for folder, old, new in renamed:
            os.rename(f"{folder}/{new}", f"{folder}/{old}")
        assert bench.scene.heal() == []


def test_what_is_staged_below_a_new_folder_whose_name_is_not_safe_gets_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sync of the folder that holds the new one fails, and everything else goes well."""
    sync = write.sync_folder

    def failing(folder: int) -> None:
        if os.readlink(f"/proc/self/fd/{folder}").endswith("/conf/fresh"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(folder)

    with Workbench() as bench:
        bench.turn()
        monkeypatch.setattr(write, "sync_folder", failing)
        report = bench.scene.run()
        monkeypatch.undo()
        conf = bench.scene.base / "one/conf"
        assert (
            report.status is RunStatus.FAILED
            and report.error is not None
            and "conf/fresh" in report.error.message
        )
        assert not (conf / "fresh/deep/file").exists() and (conf / "add").exists()
        assert bench.scene.heal() == []
