"""When a reload may run by `reload:`: so far from the last run of its command, and once the changes
have come to rest.

Only times that the store keeps are compared, so a restart changes nothing. A time that lies in the
future, because the clock was set back, counts as no time. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.apply_rules import ReloadSpacing
from syncd.models import Job
from syncd.ports import JobState

QUIET_PERIODS = 12  # so many times `quiet` a reload waits at most for changes that do not stop
BUSY_SECONDS = 5.0  # how soon a command that is running is asked for again, at the earliest


class Pending(Struct, frozen=True):
    """What is known of a reload that is due.

    `first_change` and `last_change` are when the changes came that it is for, `last_start` is when
    its command last began.
    """

    first_change: datetime | None
    last_change: datetime | None
    last_start: datetime | None


def spacing_of(jobs: Iterable[Job]) -> ReloadSpacing:
    """Return the spacing of jobs that share the command: the longest of each kind."""
    found = [job.reload for job in jobs]
    return ReloadSpacing(
        max((one.at_most_every_seconds for one in found), default=0.0),
        max((one.quiet_seconds for one in found), default=0.0),
    )


def pending_of(states: Iterable[JobState], last_start: datetime | None) -> Pending:
    """Return what is known of the reload that these jobs wait for together."""
    known = list(states)
    since = [one.pending_reload.since for one in known if one.pending_reload is not None]
    changes = [one.last_change_at for one in known if one.last_change_at is not None]
    return Pending(
        min((one for one in since if one is not None), default=None),
        max(changes, default=None),
        last_start,
    )


def may_start_at(spacing: ReloadSpacing, pending: Pending, now: datetime) -> datetime:
    """Return when the command may begin; `now` or earlier where it may now."""
    every = timedelta(seconds=spacing.at_most_every_seconds)
    quiet = timedelta(seconds=spacing.quiet_seconds)
    last_start, last_change = _past(pending.last_start, now), _past(pending.last_change, now)
    first_change = _past(pending.first_change, now)
    spaced = now if last_start is None else last_start + every
    if last_change is None:
        return spaced
    rested = last_change + quiet
    if first_change is not None:
        rested = min(rested, first_change + QUIET_PERIODS * quiet)
    return max(spaced, rested)


def retry_while_running_at(spacing: ReloadSpacing, pending: Pending, now: datetime) -> datetime:
    """Return when to ask again for a command that is running at this moment."""
    seconds = max(BUSY_SECONDS, spacing.quiet_seconds)
    return max(may_start_at(spacing, pending, now), now + timedelta(seconds=seconds))


def _past(moment: datetime | None, now: datetime) -> datetime | None:
    return None if moment is None or moment > now else moment


__all__ = [
    "BUSY_SECONDS",
    "Pending",
    "may_start_at",
    "pending_of",
    "retry_while_running_at",
    "spacing_of",
]
