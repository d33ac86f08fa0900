"""When a job may apply new commits: literal moments for windows, freezes, zones and changes of the
clocks.

Times are UTC, but for those of cron expressions and freezes, which are of the row's zone. What the
daemon does with this is in tests/story/test_apply_windows.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from syncd.apply_rules import ApplyRules, Closed, Freeze, WaitingCommit, Window
from syncd.apply_windows import closed_at, freeze_begin, freeze_end, next_allowed

BERLIN, NEW_YORK, SYDNEY = "Europe/Berlin", "America/New_York", "Australia/Sydney"
NIGHTS = [("0 22 * * mon-fri", 4)]  # Europe/Berlin: UTC+1 in winter, UTC+2 in summer
GAP_BERLIN = [("30 2 * * *", 1)]  # skipped on 2026-03-29, twice on the clock on 2026-10-25
HOLIDAYS = [("2026-12-20", "2027-01-04")]

OPEN = "now"
CASES = [
    # zone, windows (cron, hours), freezes (from, to), now, expected
    # --- no rules, and one window
    ("UTC", [], [], "2026-12-01 12:00:00", OPEN),
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-01 12:00:00", "2026-12-01 22:00:00"),
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-01 21:59:59", "2026-12-01 22:00:00"),
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-01 22:00:00", OPEN),
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-02 01:59:59", OPEN),
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-02 02:00:00", "2026-12-02 22:00:00"),
    ("UTC", [("@daily", 1)], [], "2026-12-01 12:00:00", "2026-12-02 00:00:00"),
    ("UTC", [("0 0 29 2 *", 1)], [], "2026-12-01 12:00:00", "2028-02-29 00:00:00"),
    # --- weekdays, and a window that goes on past midnight
    (BERLIN, NIGHTS, [], "2026-12-04 20:59:59", "2026-12-04 21:00:00"),
    (BERLIN, NIGHTS, [], "2026-12-05 00:59:59", OPEN),
    (BERLIN, NIGHTS, [], "2026-12-05 01:00:00", "2026-12-07 21:00:00"),
    (BERLIN, NIGHTS, [], "2026-12-06 21:30:00", "2026-12-07 21:00:00"),
    # --- zones
    (NEW_YORK, [("0 22 * * *", 4)], [], "2026-12-02 02:59:59", "2026-12-02 03:00:00"),
    (NEW_YORK, [("0 22 * * *", 4)], [], "2026-12-02 06:59:59", OPEN),
    (SYDNEY, [("0 22 * * *", 4)], [], "2026-12-01 10:59:59", "2026-12-01 11:00:00"),
    ("Asia/Kolkata", [("30 1 * * *", 2)], [], "2026-12-01 12:00:00", "2026-12-01 20:00:00"),
    ("Asia/Kathmandu", [("0 1 * * *", 1)], [], "2026-12-01 12:00:00", "2026-12-01 19:15:00"),
    ("Pacific/Kiritimati", [("0 0 * * *", 1)], [], "2026-12-01 09:00:00", "2026-12-01 10:00:00"),
    # --- clocks go forward: 2026-03-29 01:00 UTC in Berlin ---------------------------------------
    (BERLIN, NIGHTS, [], "2026-03-27 20:59:59", "2026-03-27 21:00:00"),
    (BERLIN, NIGHTS, [], "2026-03-28 12:00:00", "2026-03-30 20:00:00"),
    (BERLIN, GAP_BERLIN, [], "2026-03-29 00:59:59", "2026-03-29 01:00:00"),
    (BERLIN, GAP_BERLIN, [], "2026-03-29 01:00:00", OPEN),
    (BERLIN, GAP_BERLIN, [], "2026-03-29 01:59:59", OPEN),
    (BERLIN, GAP_BERLIN, [], "2026-03-29 02:00:00", "2026-03-30 00:30:00"),
    (BERLIN, [("0 22 * * *", 8)], [], "2026-03-29 04:59:59", OPEN),  # 8 hours, not until 6:00
    (BERLIN, [("0 22 * * *", 8)], [], "2026-03-29 05:00:00", "2026-03-29 20:00:00"),
    # --- clocks go back: 2026-10-25 01:00 UTC in Berlin ------------------------------------------
    (BERLIN, GAP_BERLIN, [], "2026-10-25 00:29:59", "2026-10-25 00:30:00"),
    (BERLIN, GAP_BERLIN, [], "2026-10-25 01:29:59", OPEN),
    (BERLIN, GAP_BERLIN, [], "2026-10-25 01:30:00", "2026-10-26 01:30:00"),  # once, not twice
    (BERLIN, [("0 22 * * *", 8)], [], "2026-10-25 03:59:59", OPEN),
    (BERLIN, [("0 22 * * *", 8)], [], "2026-10-25 04:00:00", "2026-10-25 21:00:00"),
    (BERLIN, [("*/30 * * * *", 0.25)], [], "2026-10-25 00:50:00", "2026-10-25 01:00:00"),
    (BERLIN, [("*/30 * * * *", 0.25)], [], "2026-10-25 01:20:00", "2026-10-25 01:30:00"),
    (SYDNEY, [("30 2 * * *", 1)], [], "2026-10-03 15:59:59", "2026-10-03 16:00:00"),
    # --- overlapping windows are one
    ("UTC", [("0 1 * * *", 2), ("0 2 * * *", 2)], [], "2026-12-01 02:59:59", OPEN),
    ("UTC", [("0 1 * * *", 2), ("0 2 * * *", 2)], [], "2026-12-01 03:59:59", OPEN),
    (
        "UTC",
        [("0 1 * * *", 2), ("0 2 * * *", 2)],
        [],
        "2026-12-01 04:00:00",
        "2026-12-02 01:00:00",
    ),
    ("UTC", [("0 0 * * *", 25)], [], "2026-12-01 23:59:59", OPEN),  # overlaps itself
    ("UTC", [("0 0 * * *", 24)], [], "2026-12-02 00:00:00", OPEN),  # one ends, the next begins
    ("UTC", [("0 6 * * sat", 1), ("0 22 * * *", 1)], [], "2026-12-04 23:00:00", "2026-12-05 06:00"),
    # --- freezes
    ("UTC", [], HOLIDAYS, "2026-12-19 23:59:59", OPEN),
    ("UTC", [], HOLIDAYS, "2026-12-20 00:00:00", "2027-01-05 00:00:00"),
    ("UTC", [], HOLIDAYS, "2027-01-04 23:59:59", "2027-01-05 00:00:00"),  # `to` is inclusive
    ("UTC", [], HOLIDAYS, "2027-01-05 00:00:00", OPEN),
    (BERLIN, [], HOLIDAYS, "2026-12-19 23:00:00", "2027-01-04 23:00:00"),
    (NEW_YORK, [], HOLIDAYS, "2026-12-20 04:59:59", OPEN),
    (BERLIN, NIGHTS, HOLIDAYS, "2026-12-21 21:30:00", "2027-01-04 23:00:00"),
    (BERLIN, [("0 22 * * *", 4)], HOLIDAYS, "2026-12-21 21:30:00", "2027-01-04 23:00:00"),
    ("UTC", [], [("2026-12-20", "2026-12-20")], "2026-12-20 12:00:00", "2026-12-21 00:00:00"),
    (
        "UTC",
        [],
        [("2026-12-20", "2026-12-24"), ("2026-12-24", "2026-12-31")],
        "2026-12-21 12:00:00",
        "2027-01-01 00:00:00",
    ),
    (
        "UTC",
        [("0 12 * * *", 1)],
        [("2026-12-02T12:00", "2026-12-02T12:30")],
        "2026-12-02 11:00:00",
        "2026-12-02 12:30:00",
    ),
    (
        "UTC",
        [("0 12 * * *", 1)],
        [("2026-12-02T11:00", "2026-12-02T13:00")],
        "2026-12-02 10:00:00",
        "2026-12-03 12:00:00",
    ),
    (
        BERLIN,
        [],
        [("2026-12-20T18:00", "2026-12-20T20:00:00-05:00")],
        "2026-12-20 17:00:00",
        "2026-12-21 01:00:00",
    ),
    # a time that the clock skips, and one that it shows twice: the freeze is the longer one
    (BERLIN, [], [("2026-03-29T02:30", "2026-03-29")], "2026-03-29 01:29:59", OPEN),
    (BERLIN, [], [("2026-03-28", "2026-03-29T02:30")], "2026-03-29 01:29:59", "2026-03-29 01:30"),
    (BERLIN, [], [("2026-10-25T02:30", "2026-10-25")], "2026-10-25 00:30:00", "2026-10-25 23:00"),
    (BERLIN, [], [("2026-10-24", "2026-10-25T02:30")], "2026-10-25 01:29:59", "2026-10-25 01:30"),
    # midnight is skipped: the day of 2026-04-24 begins at 01:00 in Cairo
    ("Africa/Cairo", [], [("2026-04-23", "2026-04-23")], "2026-04-23 21:59:59", "2026-04-23 22:00"),
    # --- a clock that steps: only the moment counts
    ("UTC", [("0 22 * * *", 4)], [], "2026-12-01 22:30:00", OPEN),
    ("UTC", [("0 22 * * *", 4)], [], "1970-01-01 02:00:00", "1970-01-01 22:00:00"),
    ("UTC", [("0 22 * * *", 4)], HOLIDAYS, "2199-01-01 00:00:00", OPEN),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("zone", "windows", "freezes", "now", "expected"), CASES)
def test_a_commit_may_be_applied_when_the_table_says(
    zone: str,
    windows: list[tuple[str, float]],
    freezes: list[tuple[str, str]],
    now: str,
    expected: str,
) -> None:
    where = ZoneInfo(zone)
    found = next_allowed(
        utc(now),
        [Window(start, hours * 3600) for start, hours in windows],
        [Freeze(freeze_begin(one, where), freeze_end(other, where)) for one, other in freezes],
        where,
    )
    assert found == (utc(now) if expected == OPEN else utc(expected))


def test_the_table_has_sixty_cases() -> None:
    assert len(CASES) >= 60


FREEZE = Freeze(utc("2026-12-20"), utc("2026-12-24"), "holidays")
NAMELESS, HELD = Freeze(utc("2026-12-20"), utc("2026-12-24")), "freeze: holidays"
OTHER = Freeze(utc("2026-12-22"), utc("2026-12-27"), "stocktaking")
NIGHT = Window("0 22 * * *", 3600.0)


@pytest.mark.parametrize(
    ("rules", "now", "until", "reason"),
    [
        (ApplyRules(), "2026-12-01", None, None),
        (ApplyRules((NIGHT,)), "2026-12-01", "2026-12-01 22:00", "outside its windows"),
        (ApplyRules((), (FREEZE,)), "2026-12-21", "2026-12-24", HELD),
        (ApplyRules((), (FREEZE, OTHER)), "2026-12-23", "2026-12-27", "freeze: stocktaking"),
        (ApplyRules((NIGHT,), (FREEZE,)), "2026-12-21 22:30", "2026-12-24 22:00", HELD),
        (ApplyRules((), (NAMELESS,)), "2026-12-21", "2026-12-24", "freeze"),
    ],
)
def test_the_reason_is_the_freeze_or_the_windows(
    rules: ApplyRules, now: str, until: str | None, reason: str | None
) -> None:
    found = closed_at(rules, utc(now))
    expected = None if until is None or reason is None else Closed(utc(until), reason)
    assert found == expected


def test_a_waiting_commit_says_until_when_in_utc() -> None:
    waiting = WaitingCommit("a" * 40, utc("2026-12-24 22:00"), "freeze: holidays")
    assert waiting.describe() == (
        "commit aaaaaaa waits until 2026-12-24T22:00:00Z: freeze: holidays"
    )
    never = WaitingCommit("a" * 40, None, "outside its windows")
    assert never.describe() == ("commit aaaaaaa waits with no window to come: outside its windows")
