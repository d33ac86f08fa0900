"""`first:` from outside: a machine whose network comes late does not wait for its next turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon

FIRST = {"every": "15s", "for": "10m"}


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "0\n"})
        yield made


def seconds_until_success(days: SimulatedDaemon, away: float) -> float:
    """How long after the network came, `away` seconds after the daemon, the job succeeded."""
    days.begin(lambda: 0.5)
    days.air.away = True
    days.run(away)
    days.air.away = False
    came = days.clock.monotonic()
    days.run(86_400.0)
    return next(moment for moment, report in days.reports if report.error is None) - came


@pytest.mark.parametrize(
    ("schedule", "first", "at_least", "at_most"),
    [
        ({"every": "1h"}, None, 60.0, 3600.0),
        ({"every": "1h"}, FIRST, 0.0, 20.0),
        ({"cron": "0 3 * * *"}, None, 3600.0, 86_400.0),
        ({"cron": "0 3 * * *"}, FIRST, 0.0, 20.0),
    ],
)
def test_a_job_with_first_is_there_as_soon_as_the_network(
    days: SimulatedDaemon,
    schedule: dict[str, str],
    first: dict[str, str] | None,
    at_least: float,
    at_most: float,
) -> None:
    days.add("j", "acme/r", first=first)
    del days.jobs["j"]["every"]
    days.jobs["j"].update(schedule)
    assert at_least <= seconds_until_success(days, 300.0) <= at_most


def test_after_its_time_the_usual_waits_apply(days: SimulatedDaemon) -> None:
    days.add("j", "acme/r", "1h", first=FIRST)
    days.begin(lambda: 0.5)
    days.air.away = True
    days.run(600.0)
    soon = len(days.reports)
    assert 35 <= soon <= 41
    days.run(3600.0)
    assert len(days.reports) - soon <= 6


def test_a_job_that_has_succeeded_waits_as_usual(days: SimulatedDaemon) -> None:
    days.add("j", "acme/r", "1h", first=FIRST)
    days.begin(lambda: 0.5)
    days.run(60.0)
    days.air.away = True
    days.run(3600.0 * 2)
    failed = [moment for moment, report in days.reports if report.error is not None]
    assert failed and len(failed) <= 12
