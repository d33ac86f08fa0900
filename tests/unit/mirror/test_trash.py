"""What is replaced without having been ours is kept, and stays kept when the power goes."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from syncd.mirror import trash
from syncd.mirror.scan import scan_entry
from syncd.mirror.trash import Trash
from syncd.models import Action, ActionKind


def test_every_folder_that_leads_to_what_is_kept_is_on_disk_before_its_only_other_name_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = trash.sync_folder, list[str]()

    def sync(folder: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{folder}"))
        real(folder)

    monkeypatch.setattr(trash, "sync_folder", sync)
    (tmp_path / "theirs").write_bytes(b"theirs\n")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        local = scan_entry(folder, "theirs", f"{tmp_path}/theirs", None, time.time_ns)
        assert local is not None
        kept = Trash(tmp_path / "state/trash")
        (tmp_path / "state").mkdir()
        action = Action(
            ActionKind.WRITE, f"{tmp_path}/theirs", None, None, local, "", replaces_foreign=True
        )
        kept.keep(folder, "theirs", action, datetime(2026, 11, 28, tzinfo=UTC))
    finally:
        os.close(folder)
    trashed = f"{tmp_path}/state/trash"
    assert synced == [f"{tmp_path}/state", f"{trashed}/contents", f"{trashed}/entries", trashed]
    (entry,) = kept.entries()
    assert entry.path == f"{tmp_path}/theirs"
    assert kept.content_of(entry).read_bytes() == b"theirs\n"


def test_keeping_or_taking_back_many_files_reads_the_entries_at_most_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = [0]
    entries = Trash.entries

    def counted(*arguments: Any) -> Any:
        reads[0] += 1
        return entries(*arguments)

    monkeypatch.setattr(Trash, "entries", counted)
    now, kept = datetime(2026, 11, 28, tzinfo=UTC), []
    (tmp_path / "state").mkdir()
    trashed = Trash(tmp_path / "state/trash")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(20):
            (tmp_path / f"f{number}").write_text(f"{number // 2}\n")
            local = scan_entry(folder, f"f{number}", f"{tmp_path}/f{number}", None, time.time_ns)
            action = Action(
                ActionKind.WRITE,
                f"{tmp_path}/f{number}",
                None,
                None,
                local,
                "",
                replaces_foreign=True,
            )
            kept.append(trashed.keep(folder, f"f{number}", action, now))
    finally:
        os.close(folder)
    assert reads[0] == 1
    assert (
        len(trashed.entries()) == 20
        and len(list((tmp_path / "state/trash/contents").iterdir())) == 10
    )
    reads[0] = 0
    trashed.undo_keep(kept)
    assert reads[0] == 1
    assert trashed.entries() == [] and list((tmp_path / "state/trash/contents").iterdir()) == []
