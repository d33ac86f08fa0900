"""The decision whether a daemon is alive, and which jobs are overdue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.status.liveness import DaemonStatus, daemon_status

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AGO_5S = NOW - timedelta(seconds=5)
AGO_60S = NOW - timedelta(seconds=60)
AGO_61S = NOW - timedelta(seconds=61)
AHEAD = NOW + timedelta(minutes=10)

CASES = {
    "never a daemon": (False, None, None),
    "running": (True, AGO_5S, DaemonStatus(True, True, AGO_5S)),
    "just started": (True, None, DaemonStatus(True, True, None)),
    "the clock was set back": (True, AHEAD, DaemonStatus(True, True, AHEAD)),
    "a late heartbeat": (True, AGO_60S, DaemonStatus(True, True, AGO_60S)),
    "hangs": (True, AGO_61S, DaemonStatus(False, True, AGO_61S)),
    "killed a moment ago": (False, AGO_5S, DaemonStatus(False, False, AGO_5S)),
}


@pytest.mark.parametrize(("running", "heartbeat", "expected"), CASES.values(), ids=CASES)
def test_a_daemon_is_alive_while_it_holds_its_lock_and_its_heartbeat_is_recent(
    running: bool, heartbeat: datetime | None, expected: DaemonStatus | None
) -> None:
    assert daemon_status(running, heartbeat, {}, NOW) == expected


def test_jobs_that_should_have_run_more_than_two_minutes_ago_are_overdue() -> None:
    due = {
        "late": NOW - timedelta(seconds=121),
        "paused": None,
        "queued": NOW - timedelta(seconds=120),
        "dead": NOW - timedelta(days=1),
        "next": NOW + timedelta(minutes=5),
    }
    found = daemon_status(True, AGO_5S, due, NOW)
    assert found is not None and found.overdue == ("late", "dead")
