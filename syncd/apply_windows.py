"""When a job may apply new commits: inside a window of `apply:`, and outside every freeze.

A window opens at each time of its cron expression, which is crontab(5)'s in the time zone, and
lasts so many seconds of real time, also over a change of the clocks. Windows that overlap are one.
A freeze is stronger than a window. Only the present moment is asked about, so a clock step or a
restart needs no treatment of its own.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

from syncd.apply_rules import ApplyRules, Closed, Freeze, Window
from syncd.cron import Cron, parse_cron
from syncd.time_zones import time_zone

OUTSIDE = "outside its windows"


def next_allowed(
    now: datetime, windows: Sequence[Window], freezes: Sequence[Freeze], zone: tzinfo
) -> datetime | None:
    """Return the first moment from `now` (aware UTC) on at which a new commit may be applied.

    That is `now` itself where one may be applied now, and None where no window comes.
    """
    moment: datetime | None = now
    for _ in range(2 * len(freezes) + 2):  # each freeze ends once, and a window may open in it
        if moment is None:
            return None
        frozen = _freeze_at(moment, freezes)
        following = frozen.ends_at if frozen is not None else _next_open(moment, windows, zone)
        if following == moment:
            return moment
        moment = following
    return None


def closed_at(rules: ApplyRules, now: datetime) -> Closed | None:
    """Return until when no new commit may be applied, and why; None where one may be now."""
    if not rules.windows and not rules.freezes:
        return None
    until = next_allowed(now, rules.windows, rules.freezes, time_zone(rules.timezone))
    if until == now:
        return None
    frozen = _freeze_at(now, rules.freezes)
    if frozen is None:
        return Closed(until, OUTSIDE)
    return Closed(until, f"freeze: {frozen.reason}" if frozen.reason else "freeze")


def _freeze_at(moment: datetime, freezes: Sequence[Freeze]) -> Freeze | None:
    """Return the freeze that holds at the moment; of several, the one that ends last."""
    held = [one for one in freezes if one.begins_at <= moment < one.ends_at]
    return max(held, key=lambda one: one.ends_at, default=None)


def _next_open(moment: datetime, windows: Sequence[Window], zone: tzinfo) -> datetime | None:
    """Return the moment itself inside a window or without windows, or when the next one opens."""
    if not windows:
        return moment
    starts = [_start_after(moment, window, zone) for window in windows]
    known = [max(moment, start) for start in starts if start is not None]
    return min(known, default=None)


def _start_after(moment: datetime, window: Window, zone: tzinfo) -> datetime | None:
    """Return the first start of the window that ends after the moment; it may have begun."""
    earliest = (moment - timedelta(seconds=window.seconds)).astimezone(zone)
    found = _cron(window.start).next_after(earliest)
    return None if found is None else found.astimezone(UTC)


@lru_cache(maxsize=256)
def _cron(text: str) -> Cron:
    return parse_cron(text)


# --- freezes as they are written ------------------------------------------------------------------


def freeze_begin(text: str, zone: tzinfo) -> datetime:
    """Return when a freeze `from` this date or time begins.

    Raises ValueError for text that is neither.
    """
    return _moments(text, zone)[0]


def freeze_end(text: str, zone: tzinfo) -> datetime:
    """Return when a freeze `to` this date or time ends; the day of a date is part of the freeze.

    Raises ValueError for text that is neither.
    """
    if _is_date(text):
        try:
            following = date.fromisoformat(text) + timedelta(days=1)
        except OverflowError as error:
            raise ValueError("the date is too far away") from error
        return _at_midnight(following, zone)
    return max(_moments(text, zone))


def _moments(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return both moments that the text may mean: of a time that the clock shows twice, or skips,
    they differ.
    """
    if _is_date(text):
        return (_at_midnight(date.fromisoformat(text), zone),) * 2
    found = datetime.fromisoformat(text)
    if found.tzinfo is not None:
        return (found.astimezone(UTC),) * 2
    local = found.replace(tzinfo=zone)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _at_midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _is_date(text: str) -> bool:
    return len(text) == len("2026-12-20")


__all__ = ["closed_at", "freeze_begin", "freeze_end", "next_allowed"]
