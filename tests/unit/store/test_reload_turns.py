"""One process at a time runs a command, and when it last began outlives the process."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.store.reload_turns import StoredReloadTurns
from syncd.store.store import SqliteStore

AT = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


def turns_of(state: Path) -> tuple[SqliteStore, StoredReloadTurns]:
    store = SqliteStore.open(state)
    return store, StoredReloadTurns(state, store.facts)


def test_a_turn_is_one_holders_alone_also_within_one_process(tmp_path: Path) -> None:
    store, turns = turns_of(tmp_path / "state")
    with turns.turn("a") as first, turns.turn("a") as second, turns.turn("b") as other:
        assert (first, second, other) == (True, False, True)
    with turns.turn("a") as again:
        assert again
    store.close()


def test_a_turn_is_over_when_its_process_dies(tmp_path: Path) -> None:
    store, turns = turns_of(tmp_path / "state")
    with turns.turn("a"):
        pass  # the lock's file is there
    held = (
        "import fcntl, os, sys, time\n"
        f"d = os.open({str(tmp_path / 'state/locks/on_change-a.turn')!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(d, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with turns.turn("a") as is_ours:
            assert not is_ours
        os.kill(child.pid, 9)
        child.wait()
        with turns.turn("a") as is_ours:
            assert is_ours
    finally:
        child.kill()
        child.communicate()
    store.close()


def test_the_last_start_is_kept_across_restarts_for_a_year(tmp_path: Path) -> None:
    store, turns = turns_of(tmp_path / "state")
    assert turns.last_start("a") is None
    turns.note_start("a", AT)
    turns.note_start("b", AT + timedelta(days=300))
    store.close()
    store, turns = turns_of(tmp_path / "state")
    assert turns.last_start("a") == AT
    turns.note_start("b", AT + timedelta(days=367))
    assert turns.last_start("a") is None and turns.last_start("b") == AT + timedelta(days=367)
    store.close()
