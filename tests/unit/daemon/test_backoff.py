"""The back-off of a job that never succeeded, with `first:`."""

from __future__ import annotations

import pytest

from syncd.apply_rules import FirstRuns
from syncd.daemon.backoff import Backoff, with_first_runs

FIRST = FirstRuns(15.0, 600.0)


@pytest.mark.parametrize(
    ("hold", "now", "expected"),
    [
        (Backoff(1, 1060.0), 1000.0, Backoff(1, 1015.0, False, True)),
        (Backoff(9, 4600.0, False, True), 1599.0, Backoff(9, 1614.0, False, True)),
        (Backoff(9, 4600.0), 1600.0, Backoff(9, 4600.0)),  # its time is over
        (Backoff(1, 1003.0), 1000.0, Backoff(1, 1003.0, False, True)),  # sooner than `every`
        (Backoff(1, 1900.0, True), 1000.0, Backoff(1, 1900.0, True)),  # GitHub named the time
    ],
)
def test_first_makes_the_wait_shorter_for_a_time(
    hold: Backoff, now: float, expected: Backoff
) -> None:
    assert with_first_runs(hold, FIRST, failing_since=1000.0, now=now) == expected
