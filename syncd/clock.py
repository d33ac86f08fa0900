"""Now, monotonic time and waiting, passed in everywhere so that no test sleeps and every wait can be ended by a signal."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

from syncd.errors import StoppedError, TimedOutError


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC wall time."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait up to `seconds`, less when `stop` is set; True when it is set."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)


class Patience:
    """How long one run may take, and what ends it early: every wait and every read of a run asks here.

    `hook_stop` ends a hook that is running; without one given, `stop` does.
    """

    def __init__(self, clock: Clock, timeout_seconds: float, stop: threading.Event | None = None, hook_stop: threading.Event | None = None) -> None:
        self.clock = clock
        self.timeout_seconds = timeout_seconds
        self.stop = stop or threading.Event()
        self.hook_stop = hook_stop or self.stop
        self._ends_at = clock.monotonic() + timeout_seconds

    def remaining_seconds(self) -> float:
        return max(0.0, self._ends_at - self.clock.monotonic())

    def pardon(self, seconds: float) -> None:
        """So many seconds are not counted: they were a hook's, which has a limit of its own."""
        self._ends_at += seconds

    def check(self) -> None:
        """Raises StoppedError after a signal, TimedOutError when the run's time is used up."""
        if self.stop.is_set():
            raise StoppedError("stopped by a signal before it was done")
        if self.remaining_seconds() <= 0:
            raise TimedOutError(
                f"the run took longer than its timeout of {self.timeout_seconds:g} s",
                hint="raise the job's timeout:, or look for what is slow with -v",
            )

    def wait(self, seconds: float) -> None:
        """Return after `seconds`. Raises as `check` does, at once when the signal comes or the time would not suffice."""
        self.check()
        if self.clock.wait(self.stop, min(seconds, self.remaining_seconds())):
            raise StoppedError("stopped by a signal while waiting")
        self.check()
