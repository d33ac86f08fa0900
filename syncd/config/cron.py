"""PURE: crontab(5) expressions: what they mean and when they come next, in a time zone, exactly once on days when clocks change.

Sunday is 0 and 7; when both day fields are given a day matches either; names and macros are known. A time that the clock skips comes
right after the gap; one that it shows twice comes once. Source: crontab(5) and cron(8), "Daylight Saving Time"; compared with an
independent implementation in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from msgspec import Struct

MONTHS = {name: number for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
YEARS_AHEAD = 9  # 29 February can be eight years away (2096 -> 2104)


class Cron(Struct, frozen=True):
    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    any_day: bool
    any_weekday: bool

    def on(self, day: date) -> bool:
        """Does it come on this day?"""
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, (day.isoweekday() % 7) in self.weekdays
        if self.any_day or self.any_weekday:
            return in_month and in_week
        return in_month or in_week

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time strictly after `moment` (aware), in its time zone; None when it never comes."""
        day, zone = moment.date() - timedelta(days=1), moment.tzinfo
        last = day + timedelta(days=366 * YEARS_AHEAD)
        while day <= last:
            if self.on(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        found = _real(datetime.combine(day, time(hour, minute), zone))
                        if found.astimezone(UTC) > moment.astimezone(UTC):
                            return found
            day += timedelta(days=1)
        return None


def _real(moment: datetime) -> datetime:
    """The moment that the wall shows; when the clock skips it, the first one after the gap."""
    real = moment.astimezone(UTC).astimezone(moment.tzinfo)
    if real.replace(tzinfo=None) == moment.replace(tzinfo=None):
        return moment
    # the wall never shows it: zoneinfo reads it with the offset before the gap, so what comes out is past the gap by as much; go to its end
    before, after = moment.replace(fold=0).utcoffset(), moment.replace(fold=1).utcoffset()
    gap = abs((after or timedelta()) - (before or timedelta()))
    return real - (moment - _start_of_gap(moment, gap))


def _start_of_gap(moment: datetime, gap: timedelta) -> datetime:
    """The wall time at which the gap around `moment` begins, to the minute."""
    begin = moment
    for _ in range(int(gap.total_seconds() // 60) + 1):
        earlier = begin - timedelta(minutes=1)
        if earlier.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None) == earlier.replace(tzinfo=None):
            return begin
        begin = earlier
    return begin


def parse_cron(text: str) -> Cron:
    """Raises ValueError that says which field is wrong, or that it never comes."""
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError(f"'{text[:40]}' is not a cron expression; it has five fields (minute hour day month weekday), like 15 3 * * mon-fri, or is @hourly, @daily, @weekly, @monthly")
    minutes = _field(fields[0], 0, 59, {}, "minute")
    hours = _field(fields[1], 0, 23, {}, "hour")
    days = _field(fields[2], 1, 31, {}, "day")
    months = _field(fields[3], 1, 12, MONTHS, "month")
    weekdays = frozenset(day % 7 for day in _field(fields[4], 0, 7, DAYS, "weekday"))
    cron = Cron(text, minutes, hours, days, months, weekdays, fields[2].startswith("*"), fields[4].startswith("*"))
    if cron.next_after(datetime(2027, 1, 1, tzinfo=UTC)) is None:
        raise ValueError(f"'{text}' never comes: there is no such day")
    return cron


def _field(text: str, low: int, high: int, names: Mapping[str, int], what: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, slash, step_text = part.partition("/")
        if slash and (not (step_text.isascii() and step_text.isdigit()) or not 1 <= int(step_text[:4]) <= high + 1):
            raise ValueError(f"'{part}' is not a {what}: the step after / is wrong")
        step = int(step_text) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            start, dash, end = span.partition("-")
            first = _number(start, low, high, names, what)
            last = _number(end, low, high, names, what) if dash else high if slash else first
        if last < first:
            raise ValueError(f"'{part}' is not a {what}: it ends before it begins")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, low: int, high: int, names: Mapping[str, int], what: str) -> int:
    if text in names:
        return names[text]
    if not (text.isascii() and text.isdigit()) or len(text) > 2 or not low <= int(text) <= high:
        raise ValueError(f"'{text[:20]}' is not a {what} ({low} to {high})")
    return int(text)
