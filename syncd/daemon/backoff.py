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

from syncd.apply_rules import FirstRuns
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

MAX_BACKOFF_SECONDS = 3600.0
MIN_BACKOFF_SECONDS = 60.0  # of a job without an interval, or with a shorter one
MAX_TEMPORARY_BACKOFF_SECONDS = (
    120.0  # contract, section 4: the longest back-off after a temporary failure, or two intervals
)
GROWTH = 1.5
PUSH_INTERVAL_SECONDS = 5.0  # between two runs of a job that pushes began
MAX_PUSH_INTERVAL_SECONDS = 300.0  # the same while it fails: the longest wait after a fix
AUTH_GROWTH = 3.0  # a person has to act: asking again soon does not help


class Backoff(Struct, frozen=True):
    """A back-off until a monotonic time.

    Timers wait for it; pushes too when it is `hard` (GitHub named the time); manual runs do not.
    With `retry` the job runs again at its end, because its next scheduled run may be far away.
    """

    failures: int
    until: float
    hard: bool = False
    retry: bool = False


def next_backoff(
    report: RunReport,
    before: Backoff | None,
    interval_seconds: float | None,
    clock: Clock,
    random_fraction: float,
    request_count: int = 1,
) -> Backoff | None:
    """Return the back-off after this run; None for none.

    `random_fraction` is in [0, 1): full jitter. `request_count` is what the run cost GitHub,
    shared answers included.

    There is none for a job that is in sync, was refused on purpose (its head is still asked for, so
    that the next push is noticed at once), was stopped or locked by another process, or whose
    reload failed: that wait is the engine's, and costs GitHub nothing.

    Six parameters: the facts of the run, with the clock and the random number given.
    """
    error = report.error
    if not needs_backoff(report) or error is None:
        return None
    failures = (before.failures if before is not None else 0) + 1
    now = clock.monotonic()
    is_late = interval_seconds is not None and interval_seconds > MAX_TEMPORARY_BACKOFF_SECONDS
    retry = _is_temporary(error) and (
        interval_seconds is None or interval_seconds > MAX_BACKOFF_SECONDS
    )
    # the network of a machine that starts may come minutes after the daemon
    retry |= isinstance(error, UnreachableError) and is_late
    if isinstance(error, RateLimitedError):
        wait = _wait_for_reset(error, clock, random_fraction)
        return Backoff(failures, now + wait, True, retry)
    jitter = 0.5 + random_fraction / 2 if isinstance(error, AuthError) else random_fraction
    seconds = jitter_window_seconds(error, failures, interval_seconds) * jitter
    if isinstance(error, UnreachableError):
        seconds = min(seconds, _max_unreachable_seconds(failures, interval_seconds))
    elif interval_seconds is not None:
        longest = max_backoff_seconds(error, interval_seconds)
        seconds = max(seconds, min(longest, (request_count - 1) * interval_seconds))
    if retry:
        seconds = max(seconds, MIN_BACKOFF_SECONDS)
    return Backoff(failures, now + seconds, False, retry)


def with_first_runs(hold: Backoff, first: FirstRuns, failing_since: float, now: float) -> Backoff:
    """Return the back-off of a job that never succeeded: `first:` asks for a run soon, for a time.

    `failing_since` and `now` are monotonic. A time that GitHub named stays.
    """
    if hold.hard or now - failing_since >= first.seconds:
        return hold
    return Backoff(hold.failures, min(hold.until, now + first.every_seconds), False, True)


def _wait_for_reset(error: RateLimitedError, clock: Clock, random_fraction: float) -> float:
    """Return the seconds until the time that GitHub named, with a little jitter after it."""
    named = max(0.0, (error.retry_at - clock.now()).total_seconds())
    return named + min(random_fraction * MIN_BACKOFF_SECONDS, named)


def _max_unreachable_seconds(failures: int, interval_seconds: float | None) -> float:
    """Return the longest wait in seconds after no host was reached.

    It is over before the next scheduled run. Of a job with a longer interval it begins at a minute.
    """
    interval = min(interval_seconds or MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
    longest = max(MIN_BACKOFF_SECONDS, interval) / 2
    if interval_seconds is None or interval_seconds <= MAX_TEMPORARY_BACKOFF_SECONDS:
        return longest
    return min(longest, MIN_BACKOFF_SECONDS * GROWTH ** min(failures - 1, 40))


def push_interval_seconds(hold: Backoff | None) -> float:
    """Return the minimum seconds between two runs that pushes start.

    A single push starts at once, and a flood of pushes costs GitHub little.
    """
    if hold is None:
        return PUSH_INTERVAL_SECONDS
    return min(
        MAX_PUSH_INTERVAL_SECONDS, MIN_BACKOFF_SECONDS * GROWTH ** min(hold.failures - 1, 40)
    )


def needs_backoff(report: RunReport) -> bool:
    """Return whether the run failed in a way that the job should be tried less often."""
    if report.status is not RunStatus.FAILED:
        return False
    return not isinstance(report.error, (StoppedError, LockedError, HookFailedError))


def jitter_window_seconds(
    error: SyncdError, failures: int, interval_seconds: float | None
) -> float:
    """Return the longest wait in seconds after so many failures in a row."""
    growth = AUTH_GROWTH if isinstance(error, AuthError) else GROWTH
    base = min(interval_seconds or MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
    base = base if _is_temporary(error) else max(MIN_BACKOFF_SECONDS, base)
    return min(max_backoff_seconds(error, interval_seconds), base * growth ** min(failures, 40))


def max_backoff_seconds(error: SyncdError, interval_seconds: float | None) -> float:
    """Return the longest wait in seconds after any number of failures: an hour, less for temporary
    ones.
    """
    if not _is_temporary(error) or interval_seconds is None:
        return MAX_BACKOFF_SECONDS
    return min(MAX_BACKOFF_SECONDS, max(MAX_TEMPORARY_BACKOFF_SECONDS, 2 * interval_seconds))


def _is_temporary(error: SyncdError) -> bool:
    return isinstance(error, (RemoteUnavailableError, RateLimitedError, BadResponseError))
