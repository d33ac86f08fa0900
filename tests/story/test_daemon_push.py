"""A push and what the whole daemon makes of it while days pass in seconds: GitHub that lags behind,
floods, jobs that fail, and nobody who pushes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.daemon.push_trigger import RECHECK_SECONDS
from syncd.github.webhook import Push
from syncd.models import RunStatus, Trigger
from syncd.simulator import faults
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "a\n"})
        yield made


def ring(days: SimulatedDaemon, number: int = 0) -> int | None:
    repo = days.github.repos["acme/r"]
    outcome = days.daemon.push_trigger.push_received(
        Push("acme/r", "refs/heads/main", repo.head(), False, "main", None, repo.id),
        f"mark {number} {repo.head()}",
        "a push",
    )
    return None if outcome is None else outcome.started


def at_rest(days: SimulatedDaemon, *names: str, every: str = "1d") -> None:
    for name in names:
        days.add(name, "acme/r", every)
    days.begin(lambda: 0.5)
    days.run(120)
    days.github.forget_requests()
    days.reports.clear()


def content(days: SimulatedDaemon, name: str = "j") -> str:
    return (days.folder / "dest" / name / "a").read_text()


def test_where_github_still_says_what_it_said_before_it_is_asked_again_for_all_jobs_together(
    days: SimulatedDaemon,
) -> None:
    at_rest(days, "j", "k")
    repo = days.github.repos["acme/r"]
    repo.lagging["refs/heads/main"] = repo.head()
    repo.commit({"files/a": "two\n"})
    assert ring(days) == 2
    days.run(1)
    assert [one.status for one in days.github.requests] == [304] and content(days) == "a\n"
    days.run(RECHECK_SECONDS[0])
    assert [one.status for one in days.github.requests] == [304, 304], "still the old answer"
    repo.lagging.clear()
    days.run(RECHECK_SECONDS[1])
    assert content(days) == content(days, "k") == "two\n" and days.github.count("head") == 3
    assert {report.trigger for _, report in days.reports} == {Trigger.PUSH} and {
        report.status for _, report in days.reports[-2:]
    } == {RunStatus.CHANGED}


def test_where_github_never_says_it_it_is_asked_three_times_and_the_next_turn_finds_the_change(
    days: SimulatedDaemon,
) -> None:
    at_rest(days, "j", every="1h")
    turn = days.daemon.next_run("j")
    assert turn is not None
    days.run((turn - days.clock.now()).total_seconds() + 60)  # the next one is far away
    days.github.forget_requests()
    repo = days.github.repos["acme/r"]
    repo.lagging["refs/heads/main"] = repo.head()
    repo.commit({"files/a": "two\n"})
    ring(days)
    days.run(1800)
    assert days.github.count("head") == 1 + len(RECHECK_SECONDS) and content(days) == "a\n"
    repo.lagging.clear()
    days.run(1800)
    assert content(days) == "two\n"


def test_minutes_of_two_pushes_a_second_cost_a_question_every_few_seconds_and_the_last_is_not_lost(
    days: SimulatedDaemon,
) -> None:
    at_rest(days, "j")
    for number in range(400):
        if number % 100 == 99:
            days.github.repos["acme/r"].commit({"files/a": f"{number}\n"})
        ring(days, number)
        days.run(0.5)
    days.run(20)
    assert content(days) == "399\n" and 30 <= days.github.count("head") <= 2 * 220 / 5, (
        "each question may be followed by a second look"
    )
    days.github.forget_requests()
    days.run(3600)
    assert days.github.requests == []


def test_a_job_that_fails_is_tried_at_once_when_something_is_pushed_and_rarely_when_much_is(
    days: SimulatedDaemon,
) -> None:
    at_rest(days, "j")
    days.github.add_fault("head", faults.status(500), times=10**6)
    ring(days)
    days.run(60)
    assert (
        days.reports
        and all(report.error is not None for _, report in days.reports)
        and days.daemon.queue.backoff_of("j") is not None
    )
    days.reports.clear()
    for number in range(1, 1801):
        ring(days, number)
        days.run(1)
    assert 5 <= len(days.reports) <= 12, "half an hour of a push a second"
    days.github.faults.clear()
    days.github.repos["acme/r"].commit({"files/a": "mended\n"})
    days.run(400)
    assert ring(days) == 1
    days.run(1)
    assert content(days) == "mended\n" and days.daemon.queue.backoff_of("j") is None
