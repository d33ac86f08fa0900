"""Days of a daemon in seconds: nothing is missed, nothing piles up, broken jobs cost no more than
healthy ones, and what was away comes back.

SYNCD_OUTAGE_HOURS makes the outage longer, SYNCD_DAY_JOBS the day's jobs more.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from syncd.daemon.queue import Request as Wanted
from syncd.simulator import faults
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import tree_of

OUTAGE_HOURS = int(os.environ.get("SYNCD_OUTAGE_HOURS", "8"))
MANY_JOBS = int(os.environ.get("SYNCD_DAY_JOBS", "300"))  # and 50 by cron


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(memory_path, monkeypatch) as made:
        yield made


def test_many_jobs_miss_no_run_in_a_day_with_the_engine_left_out(
    days: SimulatedDaemon,
) -> None:
    rng = random.Random(8)
    every = {
        f"j{number:04d}": rng.choice((900.0, 3600.0, 3600.0, 7200.0)) for number in range(MANY_JOBS)
    }
    for name, seconds in every.items():
        days.add(name, f"acme/r{rng.randrange(50)}", f"{seconds:.0f}s")
    for number in range(50):
        days.add(f"c{number:02d}", "acme/cron", jitter="30s", cron=f"{number} {number % 24} * * *")
        del days.jobs[f"c{number:02d}"]["every"]
    days.begin(rng.random)
    came: dict[str, list[float]] = {name: [] for name in days.jobs}
    steps = iter(sorted(rng.uniform(0, 86_400) for _ in range(3)))
    turn, stepped = [next(steps)], list[float]()
    by = rng.sample((-5400, 5400, 30), 3)  # the day is as long as any other at its end
    begin = days.clock.monotonic()

    def run(wanted: Wanted) -> None:
        came[wanted.job].append(days.clock.monotonic())
        days.daemon.queue.finish(wanted.job)

    def step() -> None:
        if days.clock.monotonic() - begin >= turn[0]:
            turn[0] = next(steps, 1e12)
            stepped.append(days.clock.monotonic())
            days.clock.at += timedelta(seconds=by.pop())

    days.run(86_400.0, run, step)
    end = days.clock.monotonic()
    for name, seconds in every.items():
        moments = sorted(
            [begin, *stepped, *came[name], end]
        )  # after a step of the clock an interval begins anew
        assert max(after - before for before, after in pairwise(moments)) <= seconds + 5, name
        assert len(came[name]) <= 86_400 / seconds + 2 + 6, (
            "and it comes no more often than it should, but for the steps"
        )
    assert all(1 <= len(came[name]) <= 2 for name in came if name.startswith("c"))
    assert days.daemon.queue.pending() == frozenset() == days.daemon.queue.running()


GOOD, BAD = 10, 20  # repositories
BROKEN: dict[str, Any] = {
    "no such repository": None,
    "no such branch": {"ref": "nothing"},
    "no such path": {"paths": [{"from": "nowhere/", "to": "{to}/"}]},
    "no such file": {"paths": [{"from": "files/nothing", "to": "{to}/nothing"}]},
    "no such paths": {"paths": [{"from": "nowhere/{each}/", "to": "{to}/"}]},
    "server errors": faults.status(502),
    "no sense": faults.html(),
    "lost connections": faults.reset(),
    "forbidden": faults.status(403, "Resource not accessible by personal access token"),
    "limits": faults.status(403, "You have exceeded a secondary rate limit", {"retry-after": "60"}),
}


@pytest.mark.root  # an hour of 80 jobs; one that fails is in tests/story/test_retries.py at a push
def test_broken_repositories_cost_no_more_than_healthy_ones_and_make_no_job_late(
    days: SimulatedDaemon,
) -> None:
    rng = random.Random(7)
    kinds = list(BROKEN)
    for number in range(GOOD):
        days.github.add_repo(f"acme/good{number}", {"files/a": f"{number}\n"})
        for each in range(2):
            days.add(f"good{number}-{each}", f"acme/good{number}", "5m")
    broken: dict[str, str] = {}
    for number in range(BAD):
        kind, repo = kinds[number % len(kinds)], f"acme/bad{number}"
        broken[repo] = kind
        if kind != "no such repository":
            days.github.add_repo(repo, {"files/a": "x\n"})
        for each in range(3):
            days.add(f"bad{number}-{each}", repo, "5m")
            if isinstance(BROKEN[kind], dict):
                more = dict(BROKEN[kind])
                if "paths" in more:
                    more["paths"] = [
                        {
                            key: value.format(
                                each=each, to=f"{days.folder}/dest/bad{number}-{each}"
                            )
                            for key, value in more["paths"][0].items()
                        }
                    ]
                days.jobs[f"bad{number}-{each}"].update(more)
    handle = days.github.handle

    def answering(method: str, target: str, *rest: Any) -> Any:
        answer = handle(method, target, *rest)
        repo = "/".join(target.split("/")[2:4])
        act = BROKEN.get(broken.get(repo, ""))
        return act(answer) if callable(act) else answer

    days.github.handle = answering  # type: ignore[method-assign]
    days.begin(rng.random)
    days.run(600.0)  # everybody has begun
    days.github.forget_requests()
    before = len(days.reports)
    days.run(3600.0)
    asked = Counter("/".join(one.path.split("/")[2:4]) for one in days.github.requests)
    healthy = [asked[f"acme/good{number}"] for number in range(GOOD)]
    assert min(healthy) >= 12 and max(healthy) <= 13
    per_kind = {
        kind: max(asked[repo] for repo, which in broken.items() if which == kind) for kind in kinds
    }
    print(per_kind)
    # twelve an hour, as a healthy one; at the edge of the hour one turn more, which costs up to
    # three where nothing is found under any name
    assert all(asked[repo] <= 12 + 3 for repo in broken), per_kind
    runs: dict[str, list[float]] = {}
    for at, report in days.reports[before:]:
        runs.setdefault(report.job, []).append(at)
        assert (report.error is None) == report.job.startswith("good"), report
    for number in range(GOOD):
        times = runs[f"good{number}-0"]
        # the waits of all threads add up on the one clock that passes here, where real ones
        # overlap: a fifth of the interval is theirs
        assert max(after - first for first, after in pairwise(times)) <= 300 + 60, (
            "a healthy job is not late"
        )


def test_a_long_outage_of_the_network_leaves_files_and_a_short_log_and_all_is_back_within_a_period(
    days: SimulatedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(72)
    for number in range(3):
        days.github.add_repo(f"acme/r{number}", {"files/a": f"{number}\n"})
        days.add(f"j{number}", f"acme/r{number}", ("15m", "30m", "1h")[number % 3])
    days.begin(rng.random)
    days.run(3700.0)
    assert set(days.settled().values()) == {None}
    days.air.away = True
    caplog.set_level(logging.INFO)
    caplog.clear()
    days.run(OUTAGE_HOURS * 3600.0)
    lines = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert 1 + OUTAGE_HOURS // 2 < len(lines) <= 3 + OUTAGE_HOURS + 1, (
        f"{len(lines)} lines: each job once, and one reminder an hour"
    )
    assert len(days.daemon.status_snapshot().stale) == 3, "and the daemon says that it is not ready"
    assert all((days.folder / "dest" / name / "a").exists() for name in days.jobs)
    for number in range(3):
        days.github.repos[f"acme/r{number}"].commit({"files/a": "after\n"})
    days.air.away = False
    back = days.clock.monotonic()
    days.run(3600.0 + 65)
    for number in range(3):
        period = (900.0, 1800.0, 3600.0)[number % 3]
        first = next(
            at
            for at, report in days.reports
            if report.job == f"j{number}" and at > back and report.error is None
        )
        assert first - back <= period + 60, (number, first - back)
        assert (days.folder / "dest" / f"j{number}" / "a").read_text() == "after\n"
    assert not days.daemon.status_snapshot().stale


def test_a_clock_that_is_set_back_comes_to_the_same_turns_again_and_not_to_their_answers(
    days: SimulatedDaemon,
) -> None:
    repo = days.github.add_repo("acme/r", {"files/a": "1\n"})
    days.add("j", "acme/r", "5m")
    days.begin(lambda: 0.0)
    days.run(3 * 3600.0)
    repo.commit({"files/a": "2\n"})
    days.clock.at -= timedelta(minutes=30)
    days.run(600.0)
    assert tree_of(days.folder / "dest" / "j") == {"a": b"2\n"}
