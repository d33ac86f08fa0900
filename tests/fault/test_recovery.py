"""The start after a killed run: the ledger says what the disk has,
and a reload is pending if needed.

SIGKILL comes at a chosen step of a run that brings set B over set A. The next run cannot reach
GitHub, so what it records is what it concluded from the disk alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.write import PlanWriter
from syncd.models import Action, LedgerRow
from syncd.store.store import SqliteStore
from tests.fault.points import in_child
from tests.fault.scene import JOB, rich
from tests.fault.test_hook_faults import HookScene

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[HookScene]:
    """Set A is in place and reloaded; B is next."""
    made = HookScene(tmp_path / "base", tmp_path / "state")
    made.begin()
    made.log.unlink()
    made.head = 1
    yield made


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(scene: HookScene, place: object, name: str, end: Callable[..., Any] = die) -> None:
    """A run that is killed where it calls `name`."""

    def run() -> int:
        with patch.object(place, name, end):
            scene.run()
        return 0

    assert in_child(run) == -signal.SIGKILL


def start_without_github(scene: HookScene) -> None:
    scene.away = True
    scene.run()
    scene.away = False


def in_store(scene: HookScene, read: Callable[[SqliteStore], Any]) -> Any:
    store = SqliteStore.open(scene.state)
    try:
        return read(store)
    finally:
        store.close()


def ledger(scene: HookScene) -> dict[str, tuple[str, int]]:
    rows: dict[str, LedgerRow] = in_store(scene, lambda store: store.load_ledger(JOB))
    return {path: (row.entry.blob, row.entry.mode) for path, row in rows.items()}


def as_recorded(scene: HookScene, head: int) -> dict[str, tuple[str, int]]:
    """The ledger of a whole set."""
    modes = {0o100644: 0o644, 0o100755: 0o755, 0o120000: 0o777}
    tree = rich(scene.trees[head])
    return {str(scene.path_of(path)): (one.id, modes[one.mode]) for path, one in tree.items()}


def hidden(scene: HookScene, rows: dict[str, Any]) -> dict[str, Any]:
    """Rows below a folder that has become a file: they stay until the next plan."""
    return {
        path: row for path, row in rows.items() if path.startswith(f"{scene.path_of('conf/swap')}/")
    }


def test_a_run_killed_before_its_record_is_recorded_at_the_next_start(scene: HookScene) -> None:
    kill_at(scene, SqliteStore, "record")
    start_without_github(scene)
    rows = ledger(scene)
    assert rows == as_recorded(scene, 1) | hidden(scene, rows)
    assert scene.ran() == ["B"], "the whole set is there, so its reload needs no GitHub"
    assert in_store(scene, lambda store: store.state(JOB)).pending_reload is None
    assert in_store(scene, lambda store: store.intent(JOB)) is None


def test_the_reload_after_a_killed_run_is_told_what_that_run_changed(scene: HookScene) -> None:
    kill_at(scene, SqliteStore, "record")
    start_without_github(scene)
    changes = in_store(scene, lambda store: store.changes_since(JOB, EPOCH))
    told = {(change.action.value, change.path) for change in changes}
    assert ("write", str(scene.path_of("conf/add"))) in told
    assert ("mode", str(scene.path_of("conf/mode"))) in told
    assert ("remove", str(scene.path_of("conf/delete"))) in told


def test_a_run_killed_before_its_first_write_leaves_no_reload_pending(scene: HookScene) -> None:
    kill_at(scene, DiskMirror, "apply")
    start_without_github(scene)
    assert ledger(scene) == as_recorded(scene, 0)
    assert scene.ran() == []
    assert in_store(scene, lambda store: store.state(JOB)).pending_reload is None
    assert scene.heal() == [] and scene.ran() == ["B"]


def test_what_a_killed_run_staged_is_gone_after_the_next_start(scene: HookScene) -> None:
    kill_at(scene, PlanWriter, "_publish")
    assert scene.leftovers() != [] and scene.path_of("conf/fresh/deep").is_dir()
    start_without_github(scene)
    assert scene.leftovers() == []
    assert not scene.path_of("conf/fresh").exists(), "nor the folders that were made for it"
    assert scene.foreign_touched() == []


def test_half_a_set_is_recorded_as_far_as_it_came_and_is_not_reloaded(scene: HookScene) -> None:
    apply = DiskMirror.apply

    def half(self: DiskMirror, intent: str, steps: list[Action], *rest: Any) -> None:
        apply(self, intent, [step for step in steps if step.path in done], *rest)
        die()

    done = {
        str(scene.path_of(path)) for path in ("conf/change", "conf/add", "conf/delete", "single")
    }
    kill_at(scene, DiskMirror, "apply", half)
    start_without_github(scene)
    before, after = as_recorded(scene, 0), as_recorded(scene, 1)
    came = {path: (after if path in done else before).get(path) for path in before.keys() | done}
    assert ledger(scene) == {path: row for path, row in came.items() if row is not None}
    state = in_store(scene, lambda store: store.state(JOB))
    assert scene.ran() == []
    assert state.pending_reload is not None and state.pending_reload.commit is None
    assert scene.heal() == [] and scene.ran() == ["B"]


def test_a_reload_that_was_pending_before_a_killed_run_is_pending_after_it(
    scene: HookScene,
) -> None:
    scene.fails = ("B",)
    scene.run()
    scene.fails = ()
    scene.log.unlink()
    scene.path_of("conf/keep").write_bytes(b"an edit to put back\n")
    kill_at(scene, DiskMirror, "apply")
    start_without_github(scene)
    assert scene.ran() == ["mixed"], "set B, with the edit that the killed run did not put back"


def test_folders_that_a_killed_run_made_go_when_the_repository_goes_back(scene: HookScene) -> None:
    kill_at(scene, SqliteStore, "record")
    scene.head = 0
    assert scene.heal() == []
