"""Which daemons count as alive, and which jobs as overdue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.status.daemon_status import DueRun, daemon_status, overdue_jobs
from syncd.store.facts import Heartbeat

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
STARTED = NOW - timedelta(days=12)


def beat(age_seconds: float, pid: int | None = 7) -> Heartbeat:
    return Heartbeat("web01", pid, STARTED, NOW - timedelta(seconds=age_seconds))


@pytest.mark.parametrize(
    ("case", "heartbeat", "lock_held", "alive", "stopped", "well"),
    [
        ("running", beat(30), True, True, False, True),
        ("a late heartbeat", beat(119), True, True, False, True),
        ("hangs", beat(121), True, False, False, False),
        ("killed a moment ago", beat(1), False, False, False, False),
        ("killed long ago", beat(9e6), False, False, False, False),
        ("stopped in order", beat(9e6, pid=None), False, False, True, True),
        ("starting after a stop", beat(9e6, pid=None), True, True, False, True),
        ("the clock was set back", beat(-3600), True, True, False, True),
        ("the clock was set back, killed", beat(-3600), False, False, False, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_daemon_is_alive(
    case: str, heartbeat: Heartbeat, lock_held: bool, alive: bool, stopped: bool, well: bool
) -> None:
    found = daemon_status(heartbeat, lock_held, NOW, ())
    assert found is not None
    assert (found.alive, found.stopped, found.is_well) == (alive, stopped, well)
    assert (found.last_heartbeat, found.started_at) == (heartbeat.beat_at, STARTED)


def test_a_daemon_that_never_ran_has_no_status() -> None:
    assert daemon_status(None, False, NOW, ()) is None


def test_a_daemon_without_a_heartbeat_yet_is_alive_while_it_holds_its_lock() -> None:
    found = daemon_status(None, True, NOW, ())
    assert found is not None
    assert (found.alive, found.last_heartbeat) == (True, None)


@pytest.mark.parametrize(
    ("interval_seconds", "late_seconds", "overdue"),
    [
        (10, 120, False),
        (10, 121, True),
        (300, 300, False),
        (300, 301, True),
        (3600, 3600, False),
        (3600, 3601, True),
        (86400, 3600, False),
        (86400, 3601, True),
        (None, 3601, True),
        (300, -60, False),
    ],
)
def test_a_job_is_overdue_after_its_interval_at_least_two_minutes_at_most_an_hour(
    interval_seconds: float | None, late_seconds: float, overdue: bool
) -> None:
    due = DueRun("motd", NOW - timedelta(seconds=late_seconds), interval_seconds)
    assert overdue_jobs([due], NOW, STARTED) == (("motd",) if overdue else ())


def test_a_daemon_that_just_started_has_time_for_what_was_due_before() -> None:
    due = [DueRun("motd", NOW - timedelta(days=3), 300)]
    assert overdue_jobs(due, NOW, NOW - timedelta(seconds=299)) == ()
    assert overdue_jobs(due, NOW, NOW - timedelta(seconds=301)) == ("motd",)


def test_an_overdue_job_is_not_well_though_the_daemon_is_alive() -> None:
    found = daemon_status(beat(5), True, NOW, [DueRun("motd", NOW - timedelta(hours=3), 300)])
    assert found is not None
    assert (found.alive, found.overdue, found.is_well) == (True, ("motd",), False)
