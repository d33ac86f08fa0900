"""One question to GitHub and its whole answer; and many questions side by side.

An answer that breaks off is asked for again: nothing of it was used, and a connection lost in the middle says nothing about the next.
What each status means is protocol.py's to say; what an answer holds, its reader's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Patience
from syncd.errors import RemoteUnavailableError, TimedOutError
from syncd.github.attempts import Attempts
from syncd.github.protocol import Request, Response, Transport, failure, read, refusal

LOOK_UP_SECONDS = 0.5  # how soon a waiting caller notices a signal

T = TypeVar("T")
U = TypeVar("U")


class Answer(Struct, frozen=True):
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(transport: Transport, request: Request, patience: Patience, take: Callable[[Response], bytes] = read) -> Answer:
    """The answer to `request` when it is 200, or 304 where a condition was sent. `take` reads the body, from its start at every try.

    Raises:  what `failure` makes of any other status; RemoteUnavailableError when all `Attempts` failed, whether the connection or the body was lost.
    """

    def once(response: Response) -> Answer:
        if response.status == 304:
            response.close()
            return Answer(304, response.headers, b"")
        return Answer(response.status, response.headers, take(response))

    return stream(transport, request, patience, once)


def stream(transport: Transport, request: Request, patience: Patience, use: Callable[[Response], T], again: bool = True) -> T:
    """What `use` makes of a successful answer, whose body is still on the way; asked for `again` when it breaks off."""
    fine = (200, 304) if "If-None-Match" in request.headers else (200,)
    fine = (*fine, 206) if "Range" in request.headers else fine
    attempts = request.attempts or Attempts()
    request = replace(request, attempts=attempts)
    while True:
        response = transport.send(request, patience)
        if response.status not in fine:
            raise failure(request, refusal(response), patience.clock.now())
        try:
            return use(response)
        except TimedOutError:
            raise
        except RemoteUnavailableError:
            pause = attempts.pause(patience, answered=True) if again else None
            if pause is None:
                raise
        finally:
            response.close()
        patience.wait(pause)


class _GivenUp(Exception):
    """Not begun, because another one failed."""


class Crew:
    """At most `at_once` questions in flight for everybody who asks through this object; its threads start when they are first needed."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[U], T], things: Iterable[U], patience: Patience) -> list[T]:
        """`work` of every thing, in their order. The first error ends it: what has not begun never does, what has is waited for.

        Never called from within `work`: the threads would wait for each other.
        """
        todo = list(things)
        if len(todo) <= 1 or self._at_once == 1:
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
            self._wait(futures, patience)
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
    def _wait(futures: list[Future[T]], patience: Patience) -> None:
        """Return when all are done or one has failed; raises as `Patience.check` does."""
        pending = set(futures)
        while pending and not any(future.exception() for future in futures if future.done()):
            done, pending = wait(pending, LOOK_UP_SECONDS, FIRST_COMPLETED)
            if not done:
                patience.check()

    def _started(self) -> ThreadPoolExecutor:
        with self._guard:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="syncd-github")
            return self._pool

    def close(self) -> None:
        with self._guard:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


class Claims:
    """Who is doing what right now: of several who want the same thing, one does it and the others wait, each with its own patience."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[str, threading.Event] = {}

    @contextmanager
    def on(self, thing: str, patience: Patience) -> Iterator[None]:
        """Nobody else is inside for the same thing. Look again whether it is still to be done."""
        while True:
            with self._guard:
                other = self._held.get(thing)
                if other is None:
                    mine = self._held[thing] = threading.Event()
                    break
            if not other.wait(LOOK_UP_SECONDS):
                with patience.resting():
                    while not other.wait(LOOK_UP_SECONDS):
                        patience.check()
        try:
            yield
        finally:
            with self._guard:
                del self._held[thing]
            mine.set()
