"""Deadline of one run: its time limit, its stop signal, and what it has cost so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from syncd.clock import Clock
from syncd.errors import StoppedError, SyncdError, TimedOutError
from syncd.progress import SILENT, ProgressListener, Wait


def no_limit() -> None:
    """Do nothing: a stand-in for `Deadline.check` where work has no time limit."""


class Deadline:
    """Time limit and stop signal of one run. Every wait and every read of the run checks it.

    `hook_stop` ends a running hook; by default `stop` does. An `interactive` run (manual or push)
    may use the requests of the hourly limit that timer-triggered runs leave unused. `on_waiting` is
    called with True when the run begins to wait for a rate limit, and with False when it goes on.

    `request_count` counts requests that got an answer; `retry_count` those of them that repeated
    one. `shared_request_count` counts requests of other runs whose answers this run used. With
    `may_retry` off no request is repeated: the daemon's back-off is the retry. `failures` holds
    what failed, for all runs of one tick or command. `progress` hears what the run does. `check`
    calls `may_go_on`, which raises StoppedError where the run lost what it needs to go on.

    Six parameters: four of them have defaults that fit a one-shot.
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
        self.progress: ProgressListener = SILENT
        self.may_go_on: Callable[[], None] = no_limit
        self._shared: dict[Hashable, int] = {}
        self._ends_at = clock.monotonic() + timeout_seconds
        self._on_waiting, self._lock, self._waiting_threads = on_waiting, threading.Lock(), 0

    def remaining_seconds(self) -> float:
        """Return the time that is left, 0 at least."""
        return max(0.0, self._ends_at - self.clock.monotonic())

    def extend(self, seconds: float) -> None:
        """Do not count these seconds: a hook took them, and hooks have a limit of their own."""
        self._ends_at += seconds

    def count_shared(self, question: Hashable, request_count: int) -> None:
        """Count the requests behind an answer that this run shares, once per question."""
        self._shared.setdefault(question, request_count)

    @property
    def cost(self) -> int:
        """Return the number of requests without repeated ones."""
        return self.request_count - self.retry_count

    @property
    def shared_request_count(self) -> int:
        """Return the number of requests of other runs whose answers this run used."""
        return sum(self._shared.copy().values())

    def check(self) -> None:
        """Raise StoppedError after a signal, TimedOutError when the time is used up."""
        if self.stop.is_set():
            raise StoppedError("syncd was stopped by a signal before this was done")
        self.may_go_on()
        if self.remaining_seconds() <= 0:
            raise TimedOutError(
                f"the run took longer than its timeout of {self.timeout_seconds:g} s",
                hint="raise the job's timeout:, or look for what is slow with -v",
                id="unavailable/run-timeout",
            )

    def wait(self, seconds: float) -> None:
        """Return after `seconds`.

        Raises as `check` does, as soon as the signal comes or the time is used up.
        """
        self.check()
        if self.clock.wait(self.stop, min(seconds, self.remaining_seconds())):
            raise StoppedError("syncd was stopped by a signal while it waited")
        self.check()

    def wait_for_rate_limit(self, seconds: float, reason: Wait) -> None:
        """Wait as `wait` does, for the end of a rate limit."""
        self.progress.waiting(reason, self.clock.now() + timedelta(seconds=seconds))
        try:
            with self.yielding_worker():
                self.wait(seconds)
        finally:
            self.progress.resumed()

    @contextmanager
    def yielding_worker(self) -> Iterator[None]:
        """Mark that the run only waits for GitHub while the block runs, so that its worker is free.

        Several threads of the run may be in such a block at once.
        """
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
