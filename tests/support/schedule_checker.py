"""Whether a run is missed: every gap between a job's runs, against what its schedule, its jitter
and what holds it after a failure allow.

Knows the rules as docs/daemon.md tells them, and nothing of how the product keeps them. Times are
monotonic seconds of the simulated clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from syncd.clock import Clock
from syncd.errors import (
    BadResponseError,
    HookFailedError,
    LockedError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    UnreachableError,
)
from syncd.models import RunReport, RunStatus

# docs/daemon.md: after a start, a job whose last run is older than its interval runs within a
# minute
START_SECONDS = 60.0
HOUR = 3600.0
ROUNDING = 1.0


@dataclass(frozen=True)
class Since:
    """What the next run is measured from.

    `on_turn`: it began at a turn of the job's, so the next one is a whole interval away.
    `retries`: no host was reached, so the next run begins when the hold ends, at no turn.
    """

    at: float
    free_at: float
    busy: float
    on_turn: bool = False
    first: bool = False
    retries: bool = False


class ScheduleChecker:
    """Is told of every run and of every step of the clock; `missed` says what came too late,
    `longest` the longest gap after good runs and after failures.
    """

    def __init__(
        self, clock: Clock, interval_seconds: float, jitter_seconds: Mapping[str, float]
    ) -> None:
        self._clock, self._interval, self._jitter = clock, interval_seconds, jitter_seconds
        self._busy = 0.0  # one thread turns all wheels: what one run waits, all others are late
        now = clock.monotonic()
        self._since = {job: Since(now, now, 0.0, first=True) for job in jitter_seconds}
        self.missed: list[str] = []
        self.longest = {"good": 0.0, "failed": 0.0}
        self.runs: Counter[str] = Counter()

    def ran(self, job: str, began: float, report: RunReport, held_until: float | None) -> None:
        """A run of the job has ended just now; `held_until` is what holds it from then on."""
        self._check(job, began)
        now, before = self._clock.monotonic(), self._since[job]
        held = max(0.0, (held_until or 0.0) - now)
        most = longest_hold(report, self._interval, self._clock)
        if held > most + ROUNDING:
            self.missed.append(
                f"{job} is held for {held:.0f} s after {report.error}, at most {most:.0f} s are "
                "allowed"
            )
        self._since[job] = Since(
            began,
            now + held,
            self._busy,
            on_turn=not before.first and not before.retries,
            retries=isinstance(report.error, UnreachableError),
        )
        self._busy += now - began
        self.runs["failed" if report.error is not None else "good"] += 1

    def stepped(self) -> None:
        """The wall clock is set just now: every turn is found anew."""
        now = self._clock.monotonic()
        for job, since in self._since.items():
            self._check(job, now)
            self._since[job] = replace(since, at=now, busy=self._busy, on_turn=False)

    def ends(self, jobs: Iterable[str]) -> None:
        """Nothing comes any more: whatever should have come by now is missed."""
        for job in jobs:
            self._check(job, self._clock.monotonic())

    def _check(self, job: str, now: float) -> None:
        since = self._since[job]
        slack, jitter, held = (
            self._busy - since.busy,
            self._jitter[job],
            max(0.0, since.free_at - since.at),
        )
        passes_by = held > 0 and not (
            since.on_turn and held + slack < self._interval - jitter - ROUNDING
        )
        allowed = START_SECONDS if since.first else self._interval
        allowed += jitter + slack + (held if passes_by else 0.0)
        gap = now - since.at
        if not since.first:
            kind = "failed" if held else "good"
            self.longest[kind] = max(self.longest[kind], gap)
        if gap > allowed + ROUNDING:
            self.missed.append(
                f"{job} was left alone for {gap:.0f} s until {now:.0f}, at most {allowed:.0f} s "
                f"are allowed (of which it was held for {held:.0f} s, and others took {slack:.0f} "
                "s)"
            )


def longest_hold(report: RunReport, interval_seconds: float, clock: Clock) -> float:
    """How long a job may be left alone after this run at most;
    its next turn after that is taken.
    """
    error = report.error
    if (
        error is None
        or report.status is not RunStatus.FAILED
        or isinstance(error, (StoppedError, LockedError, HookFailedError))
    ):
        return 0.0
    if isinstance(error, RateLimitedError):
        named = max(0.0, (error.retry_at - clock.now()).total_seconds())
        return named + min(named, 60.0)
    if isinstance(error, UnreachableError):
        return interval_seconds / 2
    if isinstance(error, (RemoteUnavailableError, BadResponseError)):
        return min(HOUR, max(120.0, 2 * interval_seconds))
    return HOUR


__all__ = ["HOUR", "ScheduleChecker", "longest_hold"]
