"""One layer retries: a question costs at most four requests, and what runs share fails once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator import faults
from tests.support.fast_clock import PassingClock
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import SyncEnv, app_with_known_key, sync_env

TRIES = 4  # docs/cost.md
HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PassingClock:
    made = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        yield made


def add_jobs(hub: SyncEnv, count: int, owner: str = "acme", **more: Any) -> None:
    for number in range(count):
        repo = f"{owner}/r{number}"
        hub.github.add_repo(repo, {"files/a": f"{number}\n"})
        to = f"{hub.folder}/dest/{owner}{number}/"
        paths = [{"from": "files/", "to": to}]
        job = {"repo": repo, "ref": "main", "every": "5m", "paths": paths, **more}
        hub.jobs[f"{owner}{number}"] = job
    hub.write()


def fail(hub: SyncEnv, route: str, status: int = 500, message: str = "Server Error") -> None:
    hub.github.add_fault(route, faults.status(status, message), 10_000)


def asked(hub: SyncEnv) -> dict[str, int]:
    return dict(Counter(one.route for one in hub.github.requests))


# --- one command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [0, 4, 30])
def test_a_token_endpoint_that_fails_is_asked_four_times_by_a_command(
    hub: SyncEnv, clock: PassingClock, jobs: int
) -> None:
    add_jobs(hub, jobs)
    fail(hub, "token")
    result = hub.sync()
    kinds = {job["error"]["kind"] for job in result.json["jobs"]}
    assert (result.code, kinds, asked(hub)) == (5, {"unavailable"}, {"token": TRIES})
    assert clock.seconds <= 7, "three pauses of at most 1, 2 and 4 s"


def test_a_token_endpoint_that_fails_for_one_account_does_not_stop_the_other(
    hub: SyncEnv, clock: PassingClock
) -> None:
    hub.github.accounts.install(12345, "beta", 43)
    hub.identities["ops"].pop("installation_id")
    add_jobs(hub, 3)
    add_jobs(hub, 3, "beta")
    handle = hub.github.handle

    def answering(method: str, target: str, *rest: Any) -> Any:
        answer = handle(method, target, *rest)
        broken = "/installations/42/" in target
        return faults.status(500)(answer) if broken else answer

    hub.github.handle = answering  # type: ignore[method-assign]
    result = hub.sync()
    status = {job["job"]: job["status"] for job in result.json["jobs"]}
    failed = dict.fromkeys(("nginx", "acme0", "acme1", "acme2"), "failed")
    done = dict.fromkeys(("beta0", "beta1", "beta2"), "changed")
    assert (result.code, status) == (3, {**failed, **done})
    assert asked(hub)["token"] == TRIES + 1


def test_a_key_that_github_does_not_know_is_shown_once_by_a_command(hub: SyncEnv) -> None:
    add_jobs(hub, 5)
    hub.identities["ops"].pop("installation_id")
    hub.write()
    app_with_known_key(hub.github, 12345)
    hub.github.accounts.apps["12345"].public_keys.clear()
    result = hub.sync()
    assert (result.code, asked(hub)) == (4, {"installation": 1})


@pytest.mark.parametrize("route", ["head", "tree", "contents", "blob"])
def test_a_question_that_fails_costs_four_requests(hub: SyncEnv, route: str) -> None:
    fail(hub, route, 502)
    result = hub.sync()
    assert asked(hub).get(route, TRIES) == TRIES, asked(hub)
    assert asked(hub)["token"] == 1
    assert result.code in (0, 5)


def test_lost_answers_and_broken_bodies_are_counted_together(hub: SyncEnv) -> None:
    for number in range(8):
        broken = faults.reset_in_body(3) if number % 2 else faults.status(503)
        hub.github.faults.append(faults.Fault("head", broken, skip=number))
    result = hub.sync()
    assert (result.code, asked(hub)["head"]) == (5, TRIES)


# --- the daemon -----------------------------------------------------------------------------------


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(memory_path, monkeypatch) as made:
        yield made


def outage(days: SimulatedDaemon, wrong: faults.FaultEffect) -> list[bool]:
    """While the list holds True, every answer is `wrong`."""
    down = [False]
    handle = days.github.handle

    def answering(*ask: Any) -> Any:
        answer = handle(*ask)
        return wrong(answer) if down[0] else answer

    days.github.handle = answering  # type: ignore[method-assign]
    return down


def begun(days: SimulatedDaemon, seed: int, every: str) -> None:
    days.github.add_repo("acme/a", {"files/a": "x\n"})
    days.add("a", "acme/a", every)
    days.begin(random.Random(seed).random)
    days.run(60.0 if every == "10s" else 600.0)
    assert days.settled() == {"a": None}


def seconds_until_well(days: SimulatedDaemon, at_most: float) -> float:
    ended, before = days.clock.monotonic(), len(days.reports)
    days.run(at_most)
    return next((at - ended for at, one in days.reports[before:] if one.error is None), at_most)


@pytest.mark.parametrize("wrong", [faults.status(502), faults.html()], ids=["502", "web page"])
@pytest.mark.parametrize(
    ("every", "down_seconds", "times", "back_seconds"),
    [("10s", 40.0, 4, 90.0), ("10s", 900.0, 1, 130.0), ("5m", HOUR, 2, 900.0)],
)
def test_a_job_is_back_within_two_intervals_or_two_minutes_of_an_outages_end(
    days: SimulatedDaemon,
    wrong: faults.FaultEffect,
    every: str,
    down_seconds: float,
    times: int,
    back_seconds: float,
) -> None:
    down = outage(days, wrong)
    begun(days, 3, every)
    found = []
    for _ in range(times):
        down[0] = True
        days.run(down_seconds)
        down[0] = False
        found.append(seconds_until_well(days, back_seconds))
    print(f"every {every}, down {down_seconds:.0f} s: {[round(one) for one in found]}")
    assert max(found) < back_seconds, found


@pytest.mark.parametrize("every", ["10s", "5m", "1h"])
@pytest.mark.parametrize("wrong", [faults.status(502), faults.html()], ids=["502", "web page"])
def test_a_job_that_fails_costs_no_more_than_a_healthy_one(
    days: SimulatedDaemon, wrong: faults.FaultEffect, every: str
) -> None:
    down = outage(days, wrong)
    begun(days, 5, every)
    span = {"10s": HOUR / 10, "5m": 1.5 * HOUR, "1h": 8 * HOUR}[every]
    days.github.forget_requests()
    days.run(span)
    healthy = len(days.github.requests)
    down[0] = True
    days.github.forget_requests()
    days.run(span)
    assert len(days.github.requests) <= healthy + TRIES - 1, (len(days.github.requests), healthy)
