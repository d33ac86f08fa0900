"""When a reload may run by `reload:`: literal seconds of a minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.apply_rules import ReloadSpacing
from syncd.engine.reload_spacing import Pending, may_start_at, retry_while_running_at

BEGIN = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else BEGIN + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("every", "quiet", "first_change", "last_change", "last_start", "now", "expected"),
    [
        (60, 0, 0, 0, None, 1, 1),  # it never ran
        (60, 0, 10, 10, 0, 11, 60),  # a minute after it began
        (60, 0, 10, 40, 0, 41, 60),  # however many changes there were
        (60, 0, 10, 10, 0, 60, 60),
        (60, 0, 70, 70, 0, 71, 70),  # that is over
        (0, 5, 10, 10, None, 11, 15),  # five seconds after the last change
        (0, 5, 10, 13, None, 14, 18),
        (0, 5, 10, 69, None, 69, 70),  # twelve times `quiet` after the first change at the latest
        (0, 5, 10, 80, None, 80, 80),  # which is over
        (60, 5, 50, 58, 0, 58, 63),  # both
        (60, 5, 10, 12, 0, 13, 60),
        (60, 5, 10, 10, 500, 12, 15),  # a start in the future: the clock was set back
        (60, 5, 400, 500, None, 12, 12),  # and changes in the future
        (0, 5, None, None, None, 12, 12),
    ],
)
def test_the_command_may_begin_when_the_table_says(
    every: float,
    quiet: float,
    first_change: float | None,
    last_change: float | None,
    last_start: float | None,
    now: float,
    expected: float,
) -> None:
    pending = Pending(at(first_change), at(last_change), at(last_start))
    found = may_start_at(ReloadSpacing(every, quiet), pending, BEGIN + timedelta(seconds=now))
    assert (found - BEGIN).total_seconds() == expected


def test_a_command_that_is_running_is_asked_for_again_after_its_distance_or_five_seconds() -> None:
    now = BEGIN + timedelta(seconds=10)
    pending = Pending(at(9), at(9), at(0))
    assert retry_while_running_at(ReloadSpacing(60, 0), pending, now) == at(60)
    assert retry_while_running_at(ReloadSpacing(0, 1), pending, now) == at(15)
