"""Answers that several runs share, and the paths that a commit does not have.

Equal requests are sent once. Runs share their answers while they use one object: one command, or
one round of the daemon.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from contextlib import nullcontext
from typing import Any, TypeVar

from msgspec import Struct, field

from syncd.deadline import Deadline
from syncd.errors import StoppedError, SyncdError, TimedOutError
from syncd.github.concurrency import POLL_INTERVAL_SECONDS
from syncd.github.rate_limit import RateLimitPendingError
from syncd.ports import Head

CONFIRM_AFTER_SECONDS = 60.0
# How long a confirmed 404 counts: the first time, and from then on. A commit never changes, and
# what GitHub had not replicated an hour before, it has by then.
NOT_FOUND_TTL_SECONDS = (3600.0, 7 * 86_400.0)
MAX_NOT_FOUND = 10_000

T = TypeVar("T")


class _Flight(Struct):
    """One request under way or answered."""

    answer: Future[Any] = field(default_factory=Future)
    cost: int = 0  # requests, known when the answer is


class SingleFlight:
    """Shares one answer between all callers that use the same key.

    The key holds everything that the answer depends on. Every caller gets the answer or the error
    of the first one, and waits with its own deadline. The cost of the answer counts for each of
    them, so that all who share a failure wait as long before they ask GitHub again.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}
        self.failures: dict[Hashable, SyncdError] = {}  # of other things, such as a token
        # (repository in lower case, ref) -> a head that GitHub has confirmed to be the present one
        self.unchanged_heads: dict[tuple[str, str | None], Head] = {}
        # the same -> the error of a repository or ref that GitHub has confirmed to be missing still
        self.missing_heads: dict[tuple[str, str | None], SyncdError] = {}

    def get_or_fetch(
        self,
        key: Hashable,
        fetch: Callable[[], T],
        deadline: Deadline,
        to_share: Callable[[T], T] = lambda answer: answer,
    ) -> T:
        """Return what the first caller's `fetch` returns; the others get `to_share` of it.

        The next caller fetches again when the first one's own time was up, when it was stopped, or
        when it may spend less of the rate limit than others.
        """
        while True:
            with self._guard:
                flight = self._flights.get(key)
                is_first = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if is_first:
                return self._fetch(key, flight, fetch, deadline, to_share)
            _wait(flight.answer, deadline)
            if flight.answer.cancelled():
                continue
            deadline.count_shared(key, flight.cost)
            error = flight.answer.exception()
            if isinstance(error, SyncdError):
                # else each caller that shares it would add its run's frames to the traceback
                raise error.with_traceback(None)
            answer: T = flight.answer.result()
            return answer

    def _fetch(
        self,
        key: Hashable,
        flight: _Flight,
        fetch: Callable[[], T],
        deadline: Deadline,
        to_share: Callable[[T], T],
    ) -> T:
        before = deadline.cost
        deadline.count_shared(key, 0)  # its cost is in this run's own requests already
        try:
            answer = fetch()
            shared = to_share(answer)
        except (StoppedError, TimedOutError, RateLimitPendingError, KeyboardInterrupt):
            with self._guard:
                del self._flights[key]
            flight.answer.cancel()
            raise
        except BaseException as error:
            flight.cost = deadline.cost - before
            flight.answer.set_exception(error)
            raise
        flight.cost = deadline.cost - before
        flight.answer.set_result(shared)
        return answer


def _wait(answer: Future[Any], deadline: Deadline) -> None:
    """Wait for an answer. Raises as `Deadline.check` does."""
    wait([answer], timeout=POLL_INTERVAL_SECONDS)
    deadline.check()
    # only a rate limit or a failing connection takes longer: another job may use the worker
    with deadline.yielding_worker() if not answer.done() else nullcontext():
        while not answer.done():
            wait([answer], timeout=POLL_INTERVAL_SECONDS)
            deadline.check()


class NotFoundCache:
    """Remembers paths that a commit does not have, because a commit never changes.

    A 404 counts when GitHub sent it twice, a minute apart, for an hour, and then for a week: GitHub
    also answers 404 for what it has not replicated yet. A manual run or a push asks again. Safe
    from many threads.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        # path key -> (monotonic time of the first 404, time until which the path counts as missing)
        self._missing: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._suggestions: OrderedDict[Hashable, str | None] = OrderedDict()

    def add(self, key: Hashable, deadline: Deadline) -> None:
        """Record a 404 that GitHub has just sent for the path."""
        now = deadline.clock.monotonic()
        with self._guard:
            first, _ = self._missing.get(key, (now, 0.0))
            lasts = NOT_FOUND_TTL_SECONDS[now >= first + NOT_FOUND_TTL_SECONDS[0]]
            is_confirmed = now >= first + CONFIRM_AFTER_SECONDS
            self._missing[key] = (first, now + lasts if is_confirmed else 0.0)
            self._missing.move_to_end(key)
            _drop_oldest(self._missing)

    def contains(self, key: Hashable, deadline: Deadline) -> bool:
        """Return whether the path counts as missing for this run, so that no request is needed."""
        with self._guard:
            _, until = self._missing.get(key, (0.0, 0.0))
            return not deadline.interactive and deadline.clock.monotonic() < until

    def suggestion(self, key: Hashable, find: Callable[[], str | None] | None = None) -> str | None:
        """Return the path that may be meant by the missing one, or None.

        `find` is called once for a path; it may ask GitHub, and raises where it can't.
        """
        with self._guard:
            if key in self._suggestions or find is None:
                return self._suggestions.get(key)
        found = find()
        with self._guard:
            self._suggestions[key] = found
            _drop_oldest(self._suggestions)
        return found


def _drop_oldest(cache: OrderedDict[Hashable, Any]) -> None:
    while len(cache) > MAX_NOT_FOUND:
        cache.popitem(last=False)


class RequestCaches(Struct, frozen=True):
    """The caches of one source: answers of this round, and missing paths of any round."""

    shared: SingleFlight
    not_found: NotFoundCache


__all__ = ["NotFoundCache", "RequestCaches", "SingleFlight"]
