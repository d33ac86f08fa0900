"""Crontab text: equal to an independent implementation, and exactly once on days when clocks change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError

from syncd.config.cron import parse_cron

FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def expression(rng: random.Random) -> str:
    parts = []
    for low, high in FIELDS:
        kind = rng.randrange(6)
        if kind <= 1:
            parts.append("*")
        elif kind == 2:
            parts.append(f"*/{rng.randrange(1, high + 1)}")
        elif kind == 3:
            first = rng.randrange(low, high)
            parts.append(f"{first}-{rng.randrange(first, min(high, 6) + 1 if high == 7 and first <= 6 else high + 1)}")
        else:
            parts.append(",".join(str(rng.randrange(low, high + 1)) for _ in range(rng.randrange(1, 4))))
    return " ".join(parts)


def test_six_hundred_random_expressions_come_when_another_implementation_says() -> None:
    rng = random.Random(2026)
    start, compared = datetime(2026, 11, 23, 21, 5, tzinfo=UTC), 0
    while compared < 600:
        text = expression(rng)
        try:
            theirs = CronSim(text, start)
            expected = [next(theirs) for _ in range(12)]
        except (CronSimError, StopIteration):
            continue  # never comes
        if expected[-1] > start + timedelta(days=366 * 8):
            continue  # once in a decade or so: refused here as never
        cron, moment, mine = parse_cron(text), start, []
        for _ in range(12):
            found = cron.next_after(moment)
            assert found is not None
            moment = found
            mine.append(found)
        assert mine == expected, text
        compared += 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("text", ["30 2 * * *", "0 2 * * *", "45 1 * * *", "15 2 * * *"])
def test_a_daily_time_comes_exactly_once_on_every_day_of_three_years(zone: str, text: str) -> None:
    cron, moment = parse_cron(text), datetime(2025, 1, 1, tzinfo=ZoneInfo(zone))
    days = []
    while moment.year < 2028:
        found = cron.next_after(moment)
        assert found is not None and found.astimezone(UTC) > moment.astimezone(UTC)
        moment = found
        days.append(found.date())
    expected = [datetime(2025, 1, 1).date() + timedelta(days=number) for number in range(365 * 3)]
    assert days[: len(expected)] == expected


def test_a_skipped_time_comes_right_after_the_gap() -> None:
    found = parse_cron("30 2 * * *").next_after(datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("Europe/Berlin")))
    assert found is not None and found.astimezone(UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(("text", "same"), [("0 3 * * sun", "0 3 * * 0"), ("0 3 * * 7", "0 3 * * 0"), ("@hourly", "0 * * * *"), ("0 0 1 jan *", "0 0 1 1 *"), ("15 3 * * mon-fri", "15 3 * * 1-5")])
def test_names_macros_and_both_sundays_mean_the_same(text: str, same: str) -> None:
    one, other, moment = parse_cron(text), parse_cron(same), datetime(2026, 11, 23, tzinfo=UTC)
    for _ in range(20):
        found, expected = one.next_after(moment), other.next_after(moment)
        assert found == expected and found is not None
        moment = found
