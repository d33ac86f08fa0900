"""`reload:` from outside: how often `on_change` runs, and that no change is left without it.

The clock is simulated; the command only notes when it ran and what it saw.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.engine.reload_state import command_digest
from syncd.models import Trigger
from syncd.ports import HookResult
from syncd.store.lock import command_lock
from syncd.store.store import SqliteStore
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import SyncEnv, sync_env

SEEDS = int(os.environ.get("SYNCD_RELOAD_SEEDS", "4"))


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(tmp_path, monkeypatch) as made:
        yield made


@dataclass
class Service:
    """What `on_change` reloads. A reload takes `seconds`, and one that begins while the service
    still starts, for `starts_in` seconds after the last, fails.
    """

    days: SimulatedDaemon
    seconds: Callable[[], float] = lambda: 0.0
    starts_in: float = 0.0
    fails: Callable[[], bool] = lambda: False
    meanwhile: Callable[[float], None] = lambda second: None
    runs: list[tuple[float, float, int]] = field(default_factory=list)
    jobs: list[tuple[str, ...]] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    running: frozenset[int] = frozenset()

    def validate(self, *_: Any) -> HookResult:
        return HookResult(0)

    def run(self, call: Any, _: Any) -> HookResult:
        clock, seconds = self.days.clock, self.seconds()
        began = clock.monotonic()
        too_early = bool(self.runs) and began - self.runs[-1][0] < self.starts_in
        seen = {name: self.content(name) for name in self.days.jobs}
        for _ in range(int(seconds)):
            clock.advance(1.0)
            self.meanwhile(clock.monotonic())
        clock.advance(seconds - int(seconds))
        status = 1 if too_early or self.fails() else 0
        self.runs.append((began, clock.monotonic(), status))
        self.jobs.append(call.jobs)
        if status == 0:
            self.seen = seen
        return HookResult(status)

    def content(self, job: str) -> str:
        file = self.days.folder / f"dest/{job}/a"
        return file.read_text() if file.is_file() else "-"

    def begin(self) -> None:
        self.days.begin(random.Random(1).random)
        self.days.daemon.app.hooks = self  # type: ignore[assignment]


def job(days: SimulatedDaemon, name: str, **reload: str) -> None:
    days.github.add_repo(f"acme/{name}", {"files/a": "0\n"})
    days.add(name, f"acme/{name}", "1h", on_change=["reload"], reload=reload)


def push(days: SimulatedDaemon, name: str, content: str) -> None:
    days.github.repos[f"acme/{name}"].commit({"files/a": f"{content}\n"})
    days.daemon.queue.enqueue(name, Trigger.PUSH)


@pytest.mark.parametrize(
    ("reload", "runs", "failed"),
    [({}, 3, 2), ({"at_most_every": "60s"}, 2, 0)],
    ids=["without", "with"],
)
def test_three_pushes_in_31_seconds_do_not_reload_a_service_that_still_starts(
    days: SimulatedDaemon, reload: dict[str, str], runs: int, failed: int
) -> None:
    """A reload takes 15 s until the service is up; the second and the third push come meanwhile."""
    job(days, "web", **reload)
    service = Service(days, starts_in=15.5)
    service.begin()
    days.run(300.0)
    service.runs.clear()
    for seconds, content in ((0.0, "1"), (15.0, "2"), (16.0, "3")):
        days.run(seconds)
        push(days, "web", content)
        days.run(0.01)
    days.run(28.0)
    if not reload:
        assert [status for *_, status in service.runs] == [0, 1, 0]
        return
    assert [status for *_, status in service.runs] == [0] and service.seen["web"] == "1\n"
    days.run(60.0)
    assert [status for *_, status in service.runs] == [0, 0] and service.seen["web"] == "3\n"
    assert 60.0 <= service.runs[1][0] - service.runs[0][0] < 66.0


def test_pushes_while_the_command_runs_end_in_one_more_run(days: SimulatedDaemon) -> None:
    job(days, "web", at_most_every="20s")
    service = Service(days, seconds=lambda: 15.0)
    service.begin()
    days.run(300.0)
    begins = days.clock.monotonic()
    pushes = {3.0: "2", 8.0: "3", 14.0: "4"}
    service.runs.clear()

    def meanwhile(moment: float) -> None:
        content = pushes.pop(round(moment - begins), None)
        if content is not None:
            push(days, "web", content)

    service.meanwhile = meanwhile
    push(days, "web", "1")
    days.run(300.0)
    assert not pushes and len(service.runs) == 2 and service.seen["web"] == "4\n"
    assert service.runs[1][0] - service.runs[0][0] >= 20.0


def test_quiet_waits_until_the_changes_rest(days: SimulatedDaemon) -> None:
    job(days, "web", quiet="30s")
    service = Service(days)
    service.begin()
    days.run(300.0)
    service.runs.clear()
    for content in ("1", "2", "3"):
        push(days, "web", content)
        days.run(20.0)
    assert service.runs == []
    days.run(30.0)
    assert len(service.runs) == 1 and service.seen["web"] == "3\n"


def test_jobs_that_share_the_command_share_the_run_and_its_distance(
    days: SimulatedDaemon,
) -> None:
    job(days, "web", at_most_every="60s")
    job(days, "tls", at_most_every="60s")
    service = Service(days)
    service.begin()
    days.run(600.0)
    service.runs.clear()
    service.jobs.clear()
    push(days, "web", "1")
    days.run(5.0)
    push(days, "tls", "1")
    days.run(1.0)
    push(days, "web", "2")
    days.run(1.0)
    assert service.jobs == [("web",)]
    states = days.daemon.app.store.states(["web", "tls"])
    now = days.clock.now()
    assert [state.condition_at(now) for state in states.values()] == ["waiting", "waiting"]
    days.run(120.0)
    assert [sorted(names) for names in service.jobs] == [["web"], ["tls", "web"]]
    assert service.seen == {"web": "2\n", "tls": "1\n"}
    assert service.runs[1][0] - service.runs[0][0] >= 60.0


def test_a_reload_that_is_put_off_survives_a_restart(days: SimulatedDaemon) -> None:
    job(days, "web", at_most_every="10m")
    service = Service(days)
    service.begin()
    days.run(1300.0)
    service.runs.clear()
    push(days, "web", "1")
    days.run(60.0)
    push(days, "web", "2")
    days.run(60.0)
    assert len(service.runs) == 1
    days.daemon.app.close()
    service.begin()
    days.run(420.0)
    assert len(service.runs) == 1  # the distance is kept, too
    days.run(120.0)
    assert len(service.runs) == 2 and service.seen["web"] == "2\n"


# the first at a push, the others in the root lane
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.root] if seed else []) for seed in range(SEEDS)]
)
def test_the_last_commit_is_always_reloaded_and_the_distance_kept(
    days: SimulatedDaemon, seed: int
) -> None:
    """SYNCD_RELOAD_SEEDS=200 tries more."""
    rng = random.Random(seed)
    every, quiet = rng.choice((0, 20, 60, 300)), rng.choice((0, 5, 30))
    names = [f"j{number}" for number in range(rng.choice((1, 2, 3)))]
    for name in names:
        job(days, name, at_most_every=f"{every or 1}s", quiet=f"{quiet}s")
    service = Service(days, seconds=lambda: rng.choice((0.0, 1.5, 15.0)))
    service.fails = lambda: rng.random() < 0.1

    def meanwhile(_: float) -> None:
        if rng.random() < 0.05:
            push(days, rng.choice(names), "meanwhile")

    service.meanwhile = meanwhile
    service.begin()
    for number in range(40):
        days.run(rng.expovariate(1 / 20.0))
        push(days, rng.choice(names), f"{number}")
        if rng.random() < 0.05:
            days.daemon.app.close()
            service.begin()
    service.fails = lambda: False
    service.meanwhile = lambda second: None
    days.run(3 * 3600.0)
    assert service.seen == {name: service.content(name) for name in names}
    repos = days.github.repos
    assert service.seen == {
        name: repos[f"acme/{name}"].files_of[repos[f"acme/{name}"].head()]["files/a"]
        for name in names
    }
    starts = [began for began, *_ in service.runs]
    assert all(after - before >= max(1, every) - 0.01 for before, after in pairwise(starts))
    assert all(one[1] <= other[0] for one, other in pairwise(service.runs))


# --- the command


@pytest.fixture
def spaced(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        log = tmp_path / "reloads"
        made.write_config(on_change=["sh", "-c", f"echo x >> {log}"])
        yield made


def reloads(spaced: SyncEnv) -> int:
    return (spaced.folder / "reloads").read_text().count("x")


def test_a_sync_leaves_the_reload_pending_where_its_timeout_is_shorter(spaced: SyncEnv) -> None:
    spaced.write_config(reload={"at_most_every": "10m"}, timeout="20s")
    assert spaced.sync().code == 0 and reloads(spaced) == 1
    spaced.repo.commit({"nginx/nginx.conf": "two\n"})
    done = spaced.sync()
    assert done.code == 0 and done.job["status"] == "changed" and reloads(spaced) == 1
    assert any("on_change waits until" in note for note in done.job["notes"])
    shown = spaced.call("status", "--json")
    assert shown.code == 0 and shown.job["state"] == "waiting" and shown.job["reload_pending"]
    assert "and waits until" in spaced.call("status").out
    assert "pending" not in spaced.call("doctor").out
    assert spaced.sync().code == 0 and reloads(spaced) == 1
    spaced.write_config(reload={"at_most_every": "1s"})
    assert spaced.sync().code == 0 and reloads(spaced) == 2
    assert spaced.call("status", "--json").job["state"] == "in_sync"


def test_a_sync_waits_for_the_reload_within_its_timeout(spaced: SyncEnv) -> None:
    spaced.write_config(reload={"at_most_every": "2s"})
    spaced.sync()
    spaced.repo.commit({"nginx/nginx.conf": "two\n"})
    done = spaced.sync()
    assert done.job["status"] == "changed" and reloads(spaced) == 2
    assert "reloaded" in done.job["notes"]


def test_a_command_that_is_running_elsewhere_is_not_run(spaced: SyncEnv) -> None:
    spaced.write_config(reload={"at_most_every": "1s"}, timeout="3s")
    spaced.sync()
    spaced.repo.commit({"nginx/nginx.conf": "two\n"})
    command = command_digest(load_config(spaced.config, os.environ).jobs["nginx"])
    store = SqliteStore.open(spaced.state)
    store.facts.save_reload_start(command, datetime(2026, 1, 1, tzinfo=UTC))
    store.close()
    with command_lock(spaced.state, command):
        assert spaced.sync().code == 0 and reloads(spaced) == 1
    spaced.sync()
    assert reloads(spaced) == 2
