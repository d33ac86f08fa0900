"""Equal questions are asked once for all who ask them while they share one object: a command, or one tick of the daemon.

Promises: every caller gets the answer that the first one got, or the error that the first one met, and waits with its own deadline; what
it cost GitHub counts for each of them, so that all who share a failure leave GitHub alone for as long as its cost says. What is missing
at a commit is remembered longer.
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

CONFIRM_AFTER_SECONDS = 60.0
NOT_FOUND_TTL_SECONDS = 3600.0
MAX_NOT_FOUND = 10_000

T = TypeVar("T")


class _Flight(Struct):
    answer: Future[Any] = field(default_factory=Future)
    cost: int = 0  # exchanges, known when the answer is


class SingleFlight:
    """Questions by what they ask; whoever makes a key says in its key everything that its answer depends on."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asked: dict[Hashable, _Flight] = {}
        self.failures: dict[Hashable, SyncdError] = {}  # of what is no key, such as a token

    def get_or_fetch(
        self,
        key: Hashable,
        fetch: Callable[[], T],
        deadline: Deadline,
        to_share: Callable[[T], T] = lambda answer: answer,
    ) -> T:
        """What `fetch` of the first caller says; the others get what is `to_share` of it.

        A first caller whose own time was up, who was stopped, or who may spend less than others, leaves the key to the next one.
        """
        while True:
            with self._guard:
                found = self._asked.get(key)
                mine = found is None
                if found is None:
                    found = self._asked[key] = _Flight()
            if mine:
                return self._answer(key, found, fetch, deadline, to_share)
            self._await(found.answer, deadline)
            if found.answer.cancelled():
                continue
            deadline.count_shared(key, found.cost)
            error = found.answer.exception()
            if isinstance(error, SyncdError):
                raise error.with_traceback(
                    None
                )  # else each who shares it would hang the frames of its run on it
            answer: T = found.answer.result()
            return answer

    @staticmethod
    def _await(found: Future[Any], deadline: Deadline) -> None:
        wait([found], timeout=POLL_INTERVAL_SECONDS)
        deadline.check()
        with (
            deadline.yielding_worker() if not found.done() else nullcontext()
        ):  # so long takes only who is to_share waiting by a limit, or by trouble
            while not found.done():
                wait([found], timeout=POLL_INTERVAL_SECONDS)
                deadline.check()

    def _answer(
        self,
        key: Hashable,
        found: _Flight,
        fetch: Callable[[], T],
        deadline: Deadline,
        to_share: Callable[[T], T],
    ) -> T:
        before = deadline.cost
        deadline.count_shared(key, 0)  # its cost is in the exchanges already
        try:
            answer = fetch()
            keep = to_share(answer)
        except (StoppedError, TimedOutError, RateLimitPendingError, KeyboardInterrupt):
            with self._guard:
                del self._asked[key]
            found.answer.cancel()
            raise
        except BaseException as error:
            found.cost = deadline.cost - before
            found.answer.set_exception(error)
            raise
        found.cost = deadline.cost - before
        found.answer.set_result(keep)
        return answer


class NotFoundCache:
    """What a commit does not have is not asked for again at every turn: a commit never changes.

    Believed when it was said twice, a minute apart, and for an hour: GitHub also answers 404 for what it has not replicated yet. A hand or
    a push asks anew. Safe from many threads.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._said: OrderedDict[Hashable, tuple[float, float]] = (
            OrderedDict()
        )  # place -> first said at, believed until
        self._suggestions: OrderedDict[Hashable, str | None] = (
            OrderedDict()
        )  # place -> what may be meant by it instead

    def add(self, place: Hashable, deadline: Deadline) -> None:
        """GitHub has said just now that the commit does not have the place."""
        now = deadline.clock.monotonic()
        with self._guard:
            first, _ = self._said.get(place, (now, 0.0))
            self._said[place] = (
                first,
                now + NOT_FOUND_TTL_SECONDS if now >= first + CONFIRM_AFTER_SECONDS else 0.0,
            )
            self._said.move_to_end(place)
            while len(self._said) > MAX_NOT_FOUND:
                self._said.popitem(last=False)

    def contains(self, place: Hashable, deadline: Deadline) -> bool:
        """Nobody needs to ask for the place."""
        with self._guard:
            return (
                not deadline.interactive
                and deadline.clock.monotonic() < self._said.get(place, (0.0, 0.0))[1]
            )

    def suggestion(
        self, place: Hashable, find: Callable[[], str | None] | None = None
    ) -> str | None:
        """What may be meant by the missing place. It is found once: `find` may ask GitHub, and raises where it can't."""
        with self._guard:
            if place in self._suggestions or find is None:
                return self._suggestions.get(place)
        found = find()
        with self._guard:
            self._suggestions[place] = found
            while len(self._suggestions) > MAX_NOT_FOUND:
                self._suggestions.popitem(last=False)
        return found


__all__ = ["NotFoundCache", "SingleFlight"]
