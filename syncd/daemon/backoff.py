"""PURE: how long a job that failed is left alone.

Promises that a failing job costs GitHub no more than a healthy one: while it is held, its turns pass by, and the first turn after the
hold is taken; a run that took several requests to fail lets as many turns pass. Retries inside a run do not count: a run of a job that
is failing makes none. Passing trouble holds a job for two intervals or two minutes at most, so that it is back soon after an outage.
Where nobody was reached GitHub has paid nothing, so the next turn is taken: the network may be back.
"""

from __future__ import annotations

from msgspec import Struct

from syncd.clock import Clock
from syncd.errors import (
    AuthError,
    BadResponseError,
    HookFailedError,
    LockedError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    SyncdError,
    UnreachableError,
)
from syncd.models import RunReport, RunStatus

LONGEST_SECONDS = 3600.0
FIRST_SECONDS = 60.0  # of a job without an interval, or with a shorter one
PASSING_SECONDS = (
    120.0  # contract, section 4: the longest hold after passing trouble, or two intervals
)
GROWTH = 1.5
PUSHES_SECONDS = 5.0  # between two runs of a job that pushes began
PUSHES_LONGEST_SECONDS = 300.0  # the same while it fails: whoever mends it waits no longer
IDENTITY_GROWTH = 3.0  # a person has to act: asking again soon helps nobody


class Backoff(Struct, frozen=True):
    """`until` in monotonic seconds: timers wait for it, and pushes too when it is `hard` (GitHub named the time); a hand waits for nothing.

    `retry`: the job's next turn may be far away, so it is asked again at the end.
    """

    failures: int
    until: float
    hard: bool = False
    retry: bool = False


def after_run(
    report: RunReport,
    before: Backoff | None,
    interval_seconds: float | None,
    clock: Clock,
    share: float,
    exchanges: int = 1,
) -> Backoff | None:
    """What holds the job after this run; None for nothing. `share` is a random number in [0, 1): full jitter. `exchanges`: what it cost GitHub, shared answers included.

    Nothing holds a job that is in sync, was refused on purpose (its head is still asked, so that the next push is met at once), was
    stopped or locked by another, or whose reload failed: that wait is the engine's, and costs GitHub nothing.
    """
    error = report.error
    if not counts(report) or error is None:
        return None
    failures = (before.failures if before is not None else 0) + 1
    now = clock.monotonic()
    seconds = window(error, failures, interval_seconds) * (
        0.5 + share / 2 if isinstance(error, AuthError) else share
    )
    retry = _passing(error) and (interval_seconds is None or interval_seconds > LONGEST_SECONDS)
    if isinstance(error, UnreachableError):
        seconds = min(
            seconds,
            max(FIRST_SECONDS, min(interval_seconds or LONGEST_SECONDS, LONGEST_SECONDS)) / 2,
        )  # over before the next turn comes
    elif interval_seconds is not None:
        seconds = max(
            seconds, min(longest(error, interval_seconds), (exchanges - 1) * interval_seconds)
        )
    if retry:
        seconds = max(seconds, FIRST_SECONDS)
    if isinstance(error, RateLimitedError):
        named = (error.retry_at - clock.now()).total_seconds()
        return Backoff(
            failures,
            now + max(0.0, named) + min(share * FIRST_SECONDS, named if named > 0 else 0.0),
            True,
            retry,
        )
    return Backoff(failures, now + seconds, False, retry)


def between_pushes(hold: Backoff | None) -> float:
    """Seconds between two runs of a job that pushes began: a person's push is met at once, and a flood of them costs GitHub little."""
    if hold is None:
        return PUSHES_SECONDS
    return min(PUSHES_LONGEST_SECONDS, FIRST_SECONDS * GROWTH ** min(hold.failures - 1, 40))


def counts(report: RunReport) -> bool:
    """Is this a failure that is to be asked about less often?"""
    if report.status is not RunStatus.FAILED:
        return False
    return not isinstance(report.error, (StoppedError, LockedError, HookFailedError))


def window(error: SyncdError, failures: int, interval_seconds: float | None) -> float:
    """The longest wait after so many failures in a row."""
    growth = IDENTITY_GROWTH if isinstance(error, AuthError) else GROWTH
    base = min(interval_seconds or FIRST_SECONDS, LONGEST_SECONDS)
    base = base if _passing(error) else max(FIRST_SECONDS, base)
    return min(longest(error, interval_seconds), base * growth ** min(failures, 40))


def longest(error: SyncdError, interval_seconds: float | None) -> float:
    """The longest wait after however many failures: an hour, less after passing trouble."""
    if not _passing(error) or interval_seconds is None:
        return LONGEST_SECONDS
    return min(LONGEST_SECONDS, max(PASSING_SECONDS, 2 * interval_seconds))


def _passing(error: SyncdError) -> bool:
    return isinstance(error, (RemoteUnavailableError, RateLimitedError, BadResponseError))
