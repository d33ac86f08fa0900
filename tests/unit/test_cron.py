"""Crontab expressions: their times, what is refused, and days when clocks change."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from syncd.cron import parse_cron

COMES = [  # expression, after, the next times; UTC
    ("15 3 * * mon-fri", "2026-11-27T03:15", ["2026-11-30T03:15", "2026-12-01T03:15"]),
    (
        "*/20 0 * * *",
        "2026-11-27T00:10",
        ["2026-11-27T00:20", "2026-11-27T00:40", "2026-11-28T00:00"],
    ),
    (
        "5/25 12 * * *",
        "2026-11-27T12:00",
        ["2026-11-27T12:05", "2026-11-27T12:30", "2026-11-27T12:55"],
    ),
    (
        "0 0 13 * fri",
        "2026-11-12T00:00",
        ["2026-11-13T00:00", "2026-11-20T00:00", "2026-11-27T00:00"],
    ),
    ("0 0 */2 * fri", "2026-11-01T00:00", ["2026-11-13T00:00", "2026-11-27T00:00"]),
    ("0 0 29 2 *", "2096-03-01T00:00", ["2104-02-29T00:00"]),
    ("@weekly", "2026-11-27T00:00", ["2026-11-29T00:00", "2026-12-06T00:00"]),
    ("1,2,3 4-6/2 1 jan,jul *", "2026-11-27T00:00", ["2027-01-01T04:01", "2027-01-01T04:02"]),
]


def times(text: str, after: datetime, count: int) -> list[datetime]:
    cron, found = parse_cron(text), []
    for _ in range(count):
        following = cron.next_after(after)
        assert following is not None
        after = following
        found.append(following)
    return found


@pytest.mark.parametrize(("text", "after", "expected"), COMES)
def test_an_expression_comes_at_its_times(text: str, after: str, expected: list[str]) -> None:
    found = times(text, datetime.fromisoformat(after).replace(tzinfo=UTC), len(expected))
    assert [one.strftime("%Y-%m-%dT%H:%M") for one in found] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 L * *", "'l' is not a day (1 to 31; a range goes up, a step is written */5)"),
        ("0 0 * * 5#2", "'5#2' is not a weekday (0 to 7 or sun to sat;"),
        ("0 0 * * 5L", "'5l' is not a weekday"),
        ("0 0 0 * * *", "it has five fields"),
        ("0 9-5 * * *", "'9-5' is not an hour (0 to 23; a range goes up"),
        ("0 0 * jan-foo *", "'jan-foo' is not a month"),
        ("0,,5 * * * *", "'' is not a minute"),
        ("*/90 * * * *", "'*/90' is not a minute"),
        ("*/0 * * * *", "'*/0' is not a minute"),
        ("0 */25 * * *", "'*/25' is not an hour"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
    ],
)
def test_what_crontab_does_not_know_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_cron(text)


def test_a_fixed_time_in_an_hour_that_the_clock_shows_twice_comes_once() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    after = datetime(2026, 10, 25, 2, 45, tzinfo=berlin, fold=1)  # 01:45 UTC; 02:50 came at 00:50
    found = times("50 2,3 * * *", after, 2)
    assert [one.astimezone(UTC).isoformat()[:16] for one in found] == [
        "2026-10-25T02:50",
        "2026-10-26T01:50",
    ]


def test_a_wildcard_goes_on_by_real_time_when_the_clock_is_set_back() -> None:
    after = datetime(2026, 10, 25, 2, 0, tzinfo=ZoneInfo("Europe/Berlin"))  # 00:00 UTC
    found = times("*/30 * * * *", after, 5)
    assert [one.astimezone(UTC).strftime("%H:%M") for one in found] == [
        "00:30",
        "01:00",
        "01:30",
        "02:00",
        "02:30",
    ]


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
    found = parse_cron("30 2 * * *").next_after(
        datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    )
    assert found is not None and found.astimezone(UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0 3 * * sun", "0 3 * * 0"),
        ("0 3 * * 7", "0 3 * * 0"),
        ("@hourly", "0 * * * *"),
        ("0 0 1 jan *", "0 0 1 1 *"),
        ("15 3 * * mon-fri", "15 3 * * 1-5"),
    ],
)
def test_names_macros_and_both_sundays_mean_the_same(text: str, same: str) -> None:
    one, other, moment = parse_cron(text), parse_cron(same), datetime(2026, 11, 23, tzinfo=UTC)
    for _ in range(20):
        found, expected = one.next_after(moment), other.next_after(moment)
        assert found == expected and found is not None
        moment = found
