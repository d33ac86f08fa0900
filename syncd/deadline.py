"""How long one run may take, and what ends it early: every wait and every read of a run asks here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from syncd.clock import Clock
from syncd.errors import StoppedError, SyncdError, TimedOutError


def no_limit() -> None:
    """For work that may take as long as it takes: in place of a deadline's `check`."""


class Deadline:
    """How long one run may take, and what ends it early: every wait and every read of a run asks here.

    `hook_stop` ends a hook that is running; without one given, `stop` does. `interactive`: a hand or a push waits for the run, so it may spend
    what timers leave of GitHub's hourly limit. `on_waiting` hears when the run begins to wait for a limit, and when it goes on: its worker is
    free meanwhile. `request_count` counts the requests that got an answer, `shared_request_count` those of other runs whose answer this one has
    shared: what the run has cost GitHub so far; `retries` counts those request_count that only repeated one. With `may_retry` off no question
    is asked twice: the daemon's back-off is the retry. `failures` holds what failed for every run of this tick or command, by what it is.
    """

    def __init__(
        self,
        clock: Clock,
        timeout_seconds: float,
        stop: threading.Event | None = None,
        hook_stop: threading.Event | None = None,
        interactive: bool = True,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> None:
        self.clock = clock
        self.timeout_seconds = timeout_seconds
        self.stop = stop or threading.Event()
        self.hook_stop = hook_stop or self.stop
        self.interactive = interactive
        self.request_count = 0
        self.retry_count = 0
        self.may_retry = True
        self.failures: dict[Hashable, SyncdError] = {}
        self._shared: dict[Hashable, int] = {}
        self._ends_at = clock.monotonic() + timeout_seconds
        self._on_waiting, self._lock, self._waiting_threads = on_waiting, threading.Lock(), 0

    def remaining_seconds(self) -> float:
        return max(0.0, self._ends_at - self.clock.monotonic())

    def extend(self, seconds: float) -> None:
        """So many seconds are not counted: they were a hook's, which has a limit of its own."""
        self._ends_at += seconds

    def count_shared(self, question: Hashable, request_count: int) -> None:
        """The answer to a question that cost so many request_count is this run's too; they count once, however often it asks."""
        self._shared.setdefault(question, request_count)

    @property
    def cost(self) -> int:
        """The request_count of this run, without those that only repeated one."""
        return self.request_count - self.retry_count

    @property
    def shared_request_count(self) -> int:
        return sum(self._shared.copy().values())

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

    def wait_for_rate_limit(self, seconds: float) -> None:
        """As `wait`, for a limit of GitHub's."""
        with self.yielding_worker():
            self.wait(seconds)

    @contextmanager
    def yielding_worker(self) -> Iterator[None]:
        """The run does nothing but wait for GitHub, or for another run that does. Several of its threads may rest at once."""
        self._count_waiting(1)
        try:
            yield
        finally:
            self._count_waiting(-1)

    def _count_waiting(self, delta: int) -> None:
        with self._lock:
            self._waiting_threads += delta
            if self._on_waiting is not None and self._waiting_threads == max(0, delta):
                self._on_waiting(delta > 0)
