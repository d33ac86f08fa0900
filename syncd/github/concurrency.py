"""Many requests at the same time, and one request for several callers that want the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from syncd.deadline import Deadline

POLL_INTERVAL_SECONDS = 0.5  # how soon a waiting caller notices a signal

T = TypeVar("T")
U = TypeVar("U")


class _GivenUp(Exception):
    """The work was not begun, because another one failed."""


class ThreadPool:
    """At most `limit` requests in flight over all callers of this object.

    Its threads start when they are first needed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[U], T], things: Iterable[U], deadline: Deadline) -> list[T]:
        """Return `work` of every thing, in their order.

        The first error ends it: what has not begun never does, what has is waited for. Must not be
        called from within `work`: the threads would wait for each other.
        """
        todo = list(things)
        if len(todo) <= 1 or self._limit == 1:
            return [work(thing) for thing in todo]
        given_up = threading.Event()

        def begin(thing: U) -> T:
            if given_up.is_set():
                raise _GivenUp
            try:
                return work(thing)
            except BaseException:
                given_up.set()
                raise

        futures = [self._started().submit(begin, thing) for thing in todo]
        try:
            self._wait(futures, deadline)
        finally:
            given_up.set()
            for future in futures:
                future.cancel()
            wait([future for future in futures if not future.cancelled()])
        for future in futures:
            error = None if future.cancelled() else future.exception()
            if error is not None and not isinstance(error, _GivenUp):
                raise error
        return [future.result() for future in futures]

    @staticmethod
    def _wait(futures: list[Future[T]], deadline: Deadline) -> None:
        """Return when all are done or one has failed. Raises as `Deadline.check` does."""
        pending = set(futures)
        while pending and not any(future.exception() for future in futures if future.done()):
            done, pending = wait(pending, POLL_INTERVAL_SECONDS, FIRST_COMPLETED)
            if not done:
                deadline.check()

    def _started(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._limit, thread_name_prefix="syncd-github")
            return self._pool

    def close(self) -> None:
        """Wait for what is running and end the threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


class KeyedLock:
    """A lock for each key: one caller works on it, the others wait, each with its own deadline."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, threading.Event] = {}

    @contextmanager
    def locked(self, thing: str, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of the key; check inside whether the work is still to be done."""
        while True:
            with self._lock:
                other = self._held.get(thing)
                if other is None:
                    mine = self._held[thing] = threading.Event()
                    break
            if not other.wait(POLL_INTERVAL_SECONDS):
                with deadline.yielding_worker():
                    while not other.wait(POLL_INTERVAL_SECONDS):
                        deadline.check()
        try:
            yield
        finally:
            with self._lock:
                del self._held[thing]
            mine.set()
