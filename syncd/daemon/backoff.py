"""Back-off: how long a failed job waits.

A failing job costs GitHub no more than a healthy one. Its scheduled runs are skipped until the
back-off ends; a run that took several requests to fail skips as many. Retries inside a run do not
count: a failing job's run makes none. A temporary failure lasts two intervals or two minutes at
most, so that a job is back soon after an outage. If no host was reached, GitHub had no cost, so the
next scheduled run takes place: the network may be back.

Pure: no I/O.
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
PUSHES_LONGEST_SECONDS = 300.0  # the same while it fails: the longest wait after a fix
IDENTITY_GROWTH = 3.0  # a person has to act: asking again soon does not help


class Backoff(Struct, frozen=True):
    """A back-off until a monotonic time.

    Timers wait for it; pushes too when it is `hard` (GitHub named the time); manual runs do not.
    With `retry` the job runs again at its end, because its next scheduled run may be far away.
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
    """Return the back-off after this run; None for none.

    `share` is a random number in [0, 1): full jitter. `exchanges` is what the run cost GitHub,
    shared answers included.

    There is none for a job that is in sync, was refused on purpose (its head is still asked for, so
    that the next push is noticed at once), was stopped or locked by another process, or whose
    reload failed: that wait is the engine's, and costs GitHub nothing.

    Six parameters: the facts of the run, with the clock and the random number given.
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
    """Return the minimum seconds between two runs that pushes start.

    A single push starts at once, and a flood of pushes costs GitHub little.
    """
    if hold is None:
        return PUSHES_SECONDS
    return min(PUSHES_LONGEST_SECONDS, FIRST_SECONDS * GROWTH ** min(hold.failures - 1, 40))


def counts(report: RunReport) -> bool:
    """Return whether the run failed in a way that the job should be tried less often."""
    if report.status is not RunStatus.FAILED:
        return False
    return not isinstance(report.error, (StoppedError, LockedError, HookFailedError))


def window(error: SyncdError, failures: int, interval_seconds: float | None) -> float:
    """Return the longest wait in seconds after so many failures in a row."""
    growth = IDENTITY_GROWTH if isinstance(error, AuthError) else GROWTH
    base = min(interval_seconds or FIRST_SECONDS, LONGEST_SECONDS)
    base = base if _passing(error) else max(FIRST_SECONDS, base)
    return min(longest(error, interval_seconds), base * growth ** min(failures, 40))


def longest(error: SyncdError, interval_seconds: float | None) -> float:
    """Return the longest wait in seconds after any number of failures: an hour, less for temporary
    ones.
    """
    if not _passing(error) or interval_seconds is None:
        return LONGEST_SECONDS
    return min(LONGEST_SECONDS, max(PASSING_SECONDS, 2 * interval_seconds))


def _passing(error: SyncdError) -> bool:
    return isinstance(error, (RemoteUnavailableError, RateLimitedError, BadResponseError))
