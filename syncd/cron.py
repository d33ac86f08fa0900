"""crontab(5) expressions, by cronsim: what they mean, and when they come next in a time zone.

Sunday is 0 and 7; when both day fields are given, a day matches either; names and macros are known.
On days when clocks change, an expression with a fixed minute and hour comes once: a skipped time
comes right after the gap. One whose minute or hour begins with `*` goes on by real time. What
cronsim knows beyond crontab(5) (seconds, `L`, `#`) is refused.

Source: crontab(5) and cron(8) of Debian, "Daylight Saving Time".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError
from msgspec import Struct

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = ("a minute", "an hour", "a day", "a month", "a weekday")
RANGES = ("0 to 59", "0 to 23", "1 to 31", "1 to 12 or jan to dec", "0 to 7 or sun to sat")
LONGEST_STEPS = (60, 24, 32, 13, 8)
ONE = r"([0-9]{1,2}|[a-z]{3})"
TERM = re.compile(rf"(\*|{ONE}(-{ONE})?)(/(?P<step>[0-9]{{1,2}}))?")
LONGEST_GAP = timedelta(days=366 * 9)  # 29 February can be eight years away (2096 -> 2104)


class Cron(Struct, frozen=True):
    """A checked expression of five fields."""

    text: str

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time strictly after `moment` (aware), in its zone;
        None when none comes.
        """
        after = moment.astimezone(UTC)
        times = CronSim(self.text, moment)  # begins early where the clock shows this hour again
        found = next((one for one in times if one.astimezone(UTC) > after), None)
        return None if found is None or found - moment > LONGEST_GAP else found


def parse_cron(text: str) -> Cron:
    """Return the expression.

    Raises ValueError that says which field is wrong, or that it never comes.
    """
    fields = MACROS.get(text.strip().lower(), text).lower().split()
    if len(fields) != len(FIELDS):
        raise ValueError(
            f"'{text[:40]}' is not a cron expression; it has five fields (minute hour day month "
            "weekday), like 15 3 * * mon-fri, or is @hourly, @daily, @weekly, @monthly"
        )
    for number, field in enumerate(fields):
        for term in field.split(","):
            if not _is_valid(number, term):
                raise ValueError(
                    f"'{term[:20]}' is not {FIELDS[number]} ({RANGES[number]}; "
                    "a range goes up, a step is written */5)"
                )
    cron = Cron(" ".join(fields))
    try:
        following = cron.next_after(datetime(2027, 1, 1, tzinfo=UTC))
    except CronSimError:
        following = None
    if following is None:
        raise ValueError(f"'{text}' never comes: there is no such day")
    return cron


def _is_valid(number: int, term: str) -> bool:
    """Return whether crontab(5) knows the term in field `number`, and cronsim takes it."""
    found = TERM.fullmatch(term)
    if found is None or int(found["step"] or 1) > LONGEST_STEPS[number]:
        return False
    alone = ["*"] * len(FIELDS)
    alone[number] = term
    try:
        CronSim(" ".join(alone), datetime(2027, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True
