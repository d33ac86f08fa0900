"""Schedules: when each job runs.

`every` runs on a grid of wall time whose phase follows from the repository and ref. A restart, a
slow run or a clock step moves nothing; jobs of one repository run together, and different ones are
spread over the interval. `cron` is crontab(5)'s, in the configured time zone.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from math import floor
from typing import Protocol

from msgspec import Struct

from syncd.cron import Cron, parse_cron
from syncd.models import Job
from syncd.time_zones import time_zone

FIRST_RUNS_SPREAD_SECONDS = (
    60.0  # within so much of the start every overdue job has begun, where the workers suffice
)


class Schedule(Protocol):
    """The schedule of one job."""

    @property
    def jitter_seconds(self) -> float:
        """Return the largest random delay of a run."""
        ...

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time strictly after `moment` (aware UTC), without jitter; None for
        never.
        """


class Every(Struct, frozen=True):
    """A schedule with an interval."""

    seconds: float
    phase_seconds: float
    jitter_seconds: float = 0.0

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time strictly after `moment`, without jitter."""
        passed = floor((moment.timestamp() - self.phase_seconds) / self.seconds)
        seconds = self.phase_seconds + (passed + 1) * self.seconds
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        # rounding, also that to a microsecond, may bring us back to where we are
        return found if found > moment else found + timedelta(seconds=self.seconds)


class ByCron(Struct, frozen=True):
    """A schedule with a cron expression."""

    cron: Cron
    zone: tzinfo
    jitter_seconds: float = 0.0

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time strictly after `moment`, without jitter; None for never."""
        found = self.cron.next_after(moment.astimezone(self.zone))
        return None if found is None else found.astimezone(UTC)


def schedules_of(jobs: Mapping[str, Job], timezone: str) -> dict[str, Schedule]:
    """Return the schedule of every job."""
    shortest: dict[tuple[str, str, str | None], float] = {}
    for job in jobs.values():
        if job.every_seconds:
            shortest[_group(job)] = min(
                job.every_seconds, shortest.get(_group(job), job.every_seconds)
            )
    zone = time_zone(timezone)
    return {
        name: _schedule_of(job, shortest.get(_group(job), 0.0), zone) for name, job in jobs.items()
    }


def _schedule_of(job: Job, shortest_seconds: float, zone: tzinfo) -> Schedule:
    if job.cron is not None:
        return ByCron(parse_cron(job.cron), zone, job.jitter_seconds)
    seconds = job.every_seconds or 300.0
    return Every(
        seconds,
        fraction_of(repr(_group(job))) * shortest_seconds,
        min(job.jitter_seconds, seconds / 2),
    )


def _group(job: Job) -> tuple[str, str, str | None]:
    """Return a key that is equal for jobs that ask GitHub the same question."""
    return job.identity, job.repo.lower(), job.ref


def fraction_of(text: str) -> float:
    """Return a number in [0, 1) that is the same for the same text, on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)


def first_run_after_start(
    job: Job, schedule: Schedule, last_run: datetime | None, now: datetime, jobs: int
) -> datetime | None:
    """Return when the job runs first after a start: as scheduled, or soon if it missed a run.

    Soon means spread by repository and ref over as much of FIRST_RUNS_SPREAD_SECONDS (and of the
    interval) as so many jobs need. A missed cron run stays missed, as cron has it, but for the
    first run of a job with `first:`.
    """
    due = schedule.next_after(now)
    is_first = job.first is not None and last_run is None
    if due is None or (job.cron is not None and not is_first):
        return due
    missed = last_run is None or last_run > now or (schedule.next_after(last_run) or due) <= now
    if not missed:
        return due
    width = min(
        FIRST_RUNS_SPREAD_SECONDS, job.every_seconds or FIRST_RUNS_SPREAD_SECONDS, 0.1 * (jobs - 1)
    )
    return min(due, now + timedelta(seconds=fraction_of(repr(_group(job))) * width))


def next_runs(
    jobs: Mapping[str, Job], timezone: str, moment: datetime, names: Iterable[str]
) -> dict[str, datetime | None]:
    """Return the next scheduled run of each named job."""
    schedules = schedules_of(jobs, timezone)
    return {name: schedules[name].next_after(moment) for name in names}
