"""`health` together with `reload`: the window opens after a reload that was put off, and what comes
after the way back keeps the distance to it.

First one-shots, whose waits are over at once; then the daemon, under a clock of ours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.models import RunStatus, Trigger
from tests.support.fast_clock import PassingClock
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import SyncEnv, sync_env


def script(folder: Path, name: str, text: str) -> list[str]:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def commands(folder: Path, file: Path) -> dict[str, Any]:
    """Both commands note what they saw; the check fails while the file says BAD."""
    check = f"cat {file} >> {folder}/checked; ! grep -q BAD {file}"
    return {
        "on_change": script(folder, "reload", f"cat {file} >> {folder}/reloaded"),
        "health": {"command": script(folder, "healthy", check), "for": "30s"},
        "reload": {"at_most_every": "60s"},
    }


def log(folder: Path, name: str) -> list[str]:
    file = folder / name
    return file.read_text().split() if file.exists() else []


# --- one-shots ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    """The first set was reloaded 30 s ago, and is healthy."""
    with sync_env(tmp_path, as_app=False) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        made.write_config(**commands(made.folder, made.dest / "nginx.conf"))
        assert made.sync().code == 0
        for name in ("checked", "reloaded"):
            (made.folder / name).unlink()
        yield made


def push(hub: SyncEnv, content: str) -> str:
    return hub.repo.commit({"nginx/nginx.conf": f"{content}\n"})


def test_a_one_shot_waits_for_the_reload_and_then_for_the_health(
    hub: SyncEnv, clock: PassingClock
) -> None:
    push(hub, "two")
    began = clock.monotonic()
    done = hub.sync()
    assert clock.monotonic() - began == 60.0, "30 s to the reload, and 30 s of checks"
    assert log(hub.folder, "reloaded") == ["two"] and log(hub.folder, "checked") == ["two"] * 6
    assert (done.code, done.job["notes"]) == (0, ["reloaded", "healthy: 6 checks passed in 30 s"])
    assert "reload_at" not in done.job and "health_pending" not in done.job


def test_a_one_shot_whose_reload_is_too_far_away_says_that_the_health_is_not_known(
    hub: SyncEnv, clock: PassingClock
) -> None:
    hub.write_config(timeout="10s")
    push(hub, "BAD")
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]) == (0, "changed", None)
    assert (done.job["reload_at"], done.job["health_pending"]) == ("2026-11-23T12:01:00Z", True)
    assert done.job["notes"] == [
        "on_change waits until 2026-11-23T12:01:00Z, as reload: asks",
        "the health of the change is checked after that, and is not known yet",
    ]
    assert log(hub.folder, "reloaded") == log(hub.folder, "checked") == []
    again = hub.call("sync")
    assert again.out.startswith("◷ nginx") and "0 in sync, 1 waiting." in again.out
    assert hub.call("status", "--json").job["state"] == "waiting"
    clock.advance(30.0)
    taken = hub.sync()
    assert (taken.code, taken.job["error"]["id"]) == (1, "hook/not-healthy")
    assert log(hub.folder, "reloaded") == ["BAD", "one"] and hub.tree()["nginx.conf"] == b"one\n"


def test_the_way_back_does_not_wait_and_the_fix_keeps_the_distance_to_it(
    hub: SyncEnv, clock: PassingClock
) -> None:
    began = clock.monotonic()
    push(hub, "BAD")
    assert hub.sync().job["error"]["id"] == "hook/not-healthy"
    assert clock.monotonic() - began == 40.0, "reload at 30 s, and back after two checks"
    push(hub, "fix")
    assert hub.sync().code == 0
    assert clock.monotonic() - began == 130.0, "reload at 100 s, and 30 s of checks"
    assert log(hub.folder, "reloaded") == ["BAD", "one", "fix"]


# --- the daemon -----------------------------------------------------------------------------------


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    """The first set was reloaded 40 s ago, and is healthy."""
    with simulated_daemon(memory_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "one\n"})
        made.add("j", "acme/r", "1h", **commands(made.folder, made.folder / "dest/j/a"))
        made.begin(random.Random(3).random)
        made.run(40)
        for name in ("checked", "reloaded"):
            (made.folder / name).unlink()
        made.reports.clear()
        yield made


def deploy(days: SimulatedDaemon, content: str) -> None:
    days.github.repos["acme/r"].commit({"files/a": f"{content}\n"})
    days.daemon.queue.enqueue("j", Trigger.PUSH)


def condition(days: SimulatedDaemon) -> str:
    return days.daemon.app.store.state("j").condition_at(days.clock.now())


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed meanwhile"])
def test_the_window_opens_after_the_reload_that_was_put_off(
    days: SimulatedDaemon, killed: bool
) -> None:
    deploy(days, "two")
    days.run(5)
    assert condition(days) == "waiting" and log(days.folder, "reloaded") == []
    if killed:
        days.daemon.app.close()
        days.begin(random.Random(3).random)
    days.run(25)
    assert condition(days) == "checking" and log(days.folder, "reloaded") == ["two"]
    days.run(30)
    assert condition(days) == "in_sync" and log(days.folder, "checked") == ["two"] * 6
    assert days.reports[-1][1].notes == ("healthy: 6 checks passed in 30 s",)


def test_a_bad_change_goes_back_after_its_late_reload_and_the_fix_keeps_the_distance(
    days: SimulatedDaemon,
) -> None:
    text = f"{days.folder}/dest/j/a"
    began = days.clock.monotonic()
    deploy(days, "BAD")
    days.run(25)
    assert log(days.folder, "reloaded") == ["BAD"] and condition(days) == "checking"
    deploy(days, "fix")
    days.run(15)
    assert log(days.folder, "reloaded") == ["BAD", "one"]
    assert Path(text).read_text() == "fix\n" and condition(days) == "waiting"
    (back,) = [at for at, report in days.reports if report.status is RunStatus.REFUSED]
    days.run(back - began + 59.0 - 40.0)
    assert log(days.folder, "reloaded") == ["BAD", "one"]
    days.run(7)
    assert log(days.folder, "reloaded") == ["BAD", "one", "fix"] and condition(days) == "checking"
    days.run(31)
    assert condition(days) == "in_sync"
