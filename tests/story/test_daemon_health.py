"""Health windows in the daemon, under a clock of ours: one check a turn, no request to GitHub, no
worker that waits, and nothing forgotten that was asked for meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.daemon.queue import Request
from syncd.errors import StoreError
from syncd.models import RunStatus, Trigger
from syncd.ports import JobState, Pause
from syncd.store.store import SqliteStore
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(memory_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "one\n"})
        yield made


def script(days: SimulatedDaemon, name: str, text: str) -> list[str]:
    file = days.folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def log(days: SimulatedDaemon, name: str) -> list[str]:
    file = days.folder / name
    return file.read_text().split() if file.exists() else []


def begin(days: SimulatedDaemon, every: str = "1h", **health: Any) -> None:
    """The first set is in place and healthy."""
    place, folder = days.folder / "dest/j/a", days.folder
    check = f"cat {place} >> {folder}/checked; ! grep -q BAD {place}"
    days.add(
        "j",
        "acme/r",
        every,
        health={"command": script(days, "healthy", check), "for": "30s", **health},
        on_change=script(days, "reload", f"cat {place} >> {folder}/reloaded"),
    )
    start(days)
    days.run(120)
    for name in ("checked", "reloaded"):
        (days.folder / name).unlink()
    days.reports.clear()


def start(days: SimulatedDaemon) -> None:
    days.begin(random.Random(3).random)


def restart(days: SimulatedDaemon) -> None:
    """The daemon was killed: nothing but the store knows of it."""
    days.daemon.app.close()
    start(days)


def push(days: SimulatedDaemon, content: str) -> str:
    commit: str = days.github.repos["acme/r"].commit({"files/a": content})
    days.daemon.queue.enqueue("j", Trigger.PUSH)
    return commit or days.github.repos["acme/r"].head()


def state(days: SimulatedDaemon) -> JobState:
    return days.daemon.app.store.state("j")


def content(days: SimulatedDaemon) -> str:
    return (days.folder / "dest/j/a").read_text()


def ended(days: SimulatedDaemon) -> list[tuple[RunStatus, str | None]]:
    return [(report.status, report.commit) for _, report in days.reports]


def requests(days: SimulatedDaemon) -> int:
    return len(days.github.requests)


def test_a_good_change_is_accepted_at_the_end_of_its_window(days: SimulatedDaemon) -> None:
    begin(days)
    commit = push(days, "two\n")
    days.run(1)
    asked = requests(days)
    assert state(days).condition_at(days.clock.now()) == "checking"
    days.run(28)
    assert len(log(days, "checked")) == 5 and state(days).pending_health is not None
    assert requests(days) == asked, "a check asks nothing of GitHub"
    days.run(5)
    assert log(days, "checked") == ["two"] * 6 and log(days, "reloaded") == ["two"]
    assert state(days).condition_at(days.clock.now()) == "in_sync"
    assert ended(days) == [(RunStatus.CHANGED, commit), (RunStatus.UNCHANGED, commit)]
    assert days.reports[-1][1].notes == ("healthy: 6 checks passed in 30 s",)


def test_a_bad_change_is_taken_back_as_soon_as_its_checks_say_so(days: SimulatedDaemon) -> None:
    begin(days)
    good, began = state(days).applied_commit, days.clock.monotonic()
    bad = push(days, "BAD\n")
    days.run(60)
    (_, applied), (at, taken) = days.reports[:2]
    assert (applied.status, taken.status, taken.commit) == (
        RunStatus.CHANGED,
        RunStatus.REFUSED,
        bad,
    )
    assert at - began < 11 and content(days) == "one\n"
    assert state(days).applied_commit == good and log(days, "reloaded") == ["BAD", "one"]
    assert state(days).condition_at(days.clock.now()) == "failing"
    days.run(3600)
    assert log(days, "checked") == ["BAD", "BAD"], "the commit is not tried again"
    push(days, "two\n")
    days.run(60)
    assert content(days) == "two\n" and state(days).condition_at(days.clock.now()) == "in_sync"


def test_no_worker_is_held_between_two_checks(days: SimulatedDaemon) -> None:
    begin(days)
    push(days, "two\n")
    spent: list[tuple[float, float]] = []

    def work(request: Request) -> None:
        before = days.clock.monotonic()
        days.daemon.runner.run(request)
        spent.append((before, days.clock.monotonic() - before))
        assert days.daemon.runner.active_jobs() == []

    days.run(60, work)
    assert len(spent) == 7 and {seconds for _, seconds in spent} == {0.0}
    began = spent[0][0]
    assert [round(at - began) for at, _ in spent] == [0, 5, 10, 15, 20, 25, 30]


def test_a_push_in_the_window_is_applied_after_it(days: SimulatedDaemon) -> None:
    begin(days)
    push(days, "two\n")
    days.run(12)
    third = push(days, "three\n")
    days.run(12)
    assert content(days) == "two\n"
    days.run(60)
    assert content(days) == "three\n" and state(days).applied_commit == third
    assert log(days, "checked") == ["two"] * 6 + ["three"] * 6
    assert log(days, "reloaded") == ["two", "three"]


def test_a_push_of_the_remedy_is_applied_as_soon_as_the_bad_one_is_back(
    days: SimulatedDaemon,
) -> None:
    begin(days)
    push(days, "BAD\n")
    days.run(2)
    push(days, "two\n")
    days.run(12)
    assert content(days) == "two\n" and log(days, "reloaded") == ["BAD", "one", "two"]


def test_a_schedule_shorter_than_the_window_checks_no_oftener(days: SimulatedDaemon) -> None:
    begin(days, every="2s")
    days.github.repos["acme/r"].commit({"files/a": "two\n"})
    days.run(40)
    assert log(days, "checked") == ["two"] * 6 and log(days, "reloaded") == ["two"]


@pytest.mark.parametrize(("pushed", "after"), [("two\n", "two\n"), ("BAD\n", "one\n")])
def test_killed_inside_the_window_the_next_daemon_goes_on_with_it(
    days: SimulatedDaemon, pushed: str, after: str
) -> None:
    begin(days)
    push(days, pushed)
    days.run(7)
    assert len(log(days, "checked")) == 1
    restart(days)
    assert state(days).condition_at(days.clock.now()) == "checking"
    days.run(40)
    assert content(days) == after and state(days).pending_health is None
    assert len(log(days, "checked")) == (6 if after == pushed else 2)


def test_a_machine_that_was_off_watches_the_rest_of_the_window(days: SimulatedDaemon) -> None:
    begin(days)
    push(days, "two\n")
    days.run(12)
    days.clock.advance(86_400)
    restart(days)
    days.run(5)
    assert state(days).condition_at(days.clock.now()) == "checking"
    days.run(20)
    assert len(log(days, "checked")) == 5 and state(days).pending_health is None


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_that_was_set_changes_the_window_little(days: SimulatedDaemon, step: float) -> None:
    begin(days)
    push(days, "two\n")
    days.run(12)
    days.clock.at += timedelta(seconds=step)
    days.run(8)
    assert state(days).condition_at(days.clock.now()) == "checking"
    days.run(30)
    assert state(days).pending_health is None and 5 <= len(log(days, "checked")) <= 8


def test_a_pause_and_resume_in_the_window(days: SimulatedDaemon) -> None:
    begin(days, every="1m")
    push(days, "BAD\n")
    days.run(7)
    store = days.daemon.app.store
    store.change_state("j", lambda now: _paused(now, Pause("by hand")))
    days.run(600)
    assert len(log(days, "checked")) == 1 and content(days) == "BAD\n"
    store.change_state("j", lambda now: _paused(now, None))
    days.run(120)
    assert content(days) == "one\n" and state(days).pending_health is None


def _paused(now: JobState, pause: Pause | None) -> JobState:
    return replace(now, pause=pause)


def test_health_that_is_removed_from_the_configuration_ends_the_window(
    days: SimulatedDaemon,
) -> None:
    begin(days)
    push(days, "BAD\n")
    days.run(7)
    del days.jobs["j"]["health"]
    assert days.daemon.reload()
    days.run(60)
    assert content(days) == "BAD\n" and len(log(days, "checked")) == 1
    assert state(days).condition_at(days.clock.now()) == "in_sync"


def test_a_network_that_is_away_changes_nothing_in_the_window(days: SimulatedDaemon) -> None:
    begin(days)
    push(days, "BAD\n")
    days.run(2)
    days.air.away = True
    days.run(30)
    assert content(days) == "one\n" and log(days, "reloaded") == ["BAD", "one"]


def test_a_store_that_can_not_be_written_is_tried_again_at_the_next_interval(
    days: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(days)
    push(days, "BAD\n")
    days.run(2)

    def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "change_state", refuse)
        days.run(14)
        assert content(days) == "BAD\n"
    days.run(12)
    assert content(days) == "one\n"
