"""When a pending reload runs and what its failure says: whole runs, with a reload that only notes
which set is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.models import RunStatus, Trigger
from syncd.ports import JobState
from syncd.store.store import SqliteStore
from tests.fault.scene import JOB
from tests.fault.test_hook_faults import HookScene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[HookScene]:
    """Set A is in place and reloaded; B is next."""
    made = HookScene(tmp_path / "base", tmp_path / "state")
    made.begin()
    made.log.unlink()
    made.head = 1
    yield made


def state(scene: HookScene) -> JobState:
    store = SqliteStore.open(scene.state)
    try:
        return store.state(JOB)
    finally:
        store.close()


def error_kind(scene: HookScene) -> str | None:
    last_error = state(scene).last_error
    return None if last_error is None else last_error.kind


def test_a_scheduled_run_waits_with_a_failed_reload_and_a_manual_one_does_not(
    scene: HookScene,
) -> None:
    scene.fails = ("B",)
    scene.run()
    scene.trigger = Trigger.SCHEDULE
    waiting = scene.run()
    assert scene.ran() == ["B"] and waiting.error is not None
    assert "on_change" in waiting.error.message and "tried again at" in (waiting.error.hint or "")
    scene.trigger = Trigger.OPERATOR
    scene.run()
    assert scene.ran() == ["B", "B"]


def test_a_failed_reload_is_named_beside_the_error_that_the_run_had(scene: HookScene) -> None:
    scene.fails = ("B",)
    scene.run()
    scene.away = True
    report = scene.run()
    assert report.error is not None and report.error.kind == "unavailable"
    assert any("on_change failed" in note for note in report.notes)


def test_a_failed_reload_after_a_repair_undoes_nothing(scene: HookScene) -> None:
    scene.head, scene.undo = 0, True
    scene.path_of("conf/keep").write_bytes(b"an edit\n")
    scene.fails = ("A",)
    report = scene.run()
    assert report.status is RunStatus.FAILED and report.reload_pending
    assert scene.which() == "A", "the edit does not come back"


def test_each_failed_run_is_counted_until_one_succeeds(scene: HookScene) -> None:
    scene.away = True
    scene.run()
    scene.run()
    assert (state(scene).failures, error_kind(scene)) == (2, "unavailable")
    scene.away = False
    scene.run()
    assert (state(scene).failures, error_kind(scene)) == (0, None)
