"""What a restore that died has left is removed by the next one, and by nobody while one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.mirror.restore_journal import (
    Attempt,
    has_leftovers,
    journaled,
    one_restore,
    remove_leftovers,
)
from syncd.mirror.trash import Trash

INTENT = "0123456789ab"


def attempt(folder: Path) -> Attempt:
    return Attempt(INTENT, str(folder), str(folder), (str(folder / "new"),))


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt], ids=["an error", "Ctrl-C"])
def test_a_failed_attempt_leaves_nothing(tmp_path: Path, end: type[BaseException]) -> None:
    with (
        pytest.raises(end, match="no"),
        one_restore(tmp_path),
        journaled(tmp_path, attempt(tmp_path)),
    ):
        (tmp_path / f".syncd-{INTENT}-0").touch()
        (tmp_path / "new").mkdir()
        (tmp_path / f".syncd-{INTENT[::-1]}-0").touch()
        raise end("no")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".syncd-{INTENT[::-1]}-0", "restoring.lock"}


def test_a_whole_attempt_leaves_what_it_made(tmp_path: Path) -> None:
    with one_restore(tmp_path), journaled(tmp_path, attempt(tmp_path)):
        (tmp_path / "new").mkdir()
    assert (tmp_path / "new").is_dir() and not has_leftovers(tmp_path)


def test_what_a_dead_one_left_goes_and_a_living_one_is_not_disturbed(tmp_path: Path) -> None:
    temporary = tmp_path / f".syncd-{INTENT}-0"
    with one_restore(tmp_path), journaled(tmp_path, attempt(tmp_path)):
        temporary.touch()
        remove_leftovers(tmp_path)
        assert temporary.exists() and has_leftovers(tmp_path)
        journal = (tmp_path / "restoring.json").read_bytes()
    (tmp_path / "restoring.json").write_bytes(journal)
    remove_leftovers(tmp_path)
    assert not temporary.exists() and not has_leftovers(tmp_path)


def test_pruning_leaves_the_journal_that_is_being_written(tmp_path: Path) -> None:
    trash = Trash(tmp_path)
    (tmp_path / "entries").mkdir()
    (tmp_path / "contents").mkdir()
    written = tmp_path / ".restoring.json.4711"
    with one_restore(tmp_path):
        written.touch()
        trash.prune()
        assert written.exists()
    trash.prune()
    assert not written.exists()


@pytest.mark.parametrize(
    "damaged", ["{", "0", "null", "[]", '["a", "/b", "/c", 1]', "[1, 2, 3, [4]]"]
)
def test_a_damaged_journal_stops_no_restore(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "restoring.json").write_text(damaged)
    with one_restore(tmp_path):
        assert not has_leftovers(tmp_path)
