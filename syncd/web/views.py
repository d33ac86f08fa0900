"""Limits for answers that read the store: few at once, shared between clients, bounded in bytes.

However many clients ask, some threads stay free for `/healthz` and the webhook. One thread at a
time makes a view. A view that took long to make is served again for four times as long, so that
views take a fifth of a processor at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from flask import Response
from msgspec import Struct

MAX_CONCURRENT = 5  # of all views together
MAX_CONCURRENT_PER_VIEW = 2  # of one view: who makes it, and who waits for it
MAX_PAGE_BYTES = 4 << 20  # of one answer
MAX_UNREAD_BYTES = (
    16 << 20
)  # of answers that clients have not taken yet: no further views until they have
CACHE_TIME_FACTOR = 4
MAX_CACHE_SECONDS = 5.0


class TooBusyError(Exception):
    """Too many answers are in progress; the client should ask again soon."""


class TooLargeError(Exception):
    """The answer would be larger than a page may be."""


class _Kept(Struct, frozen=True):
    status: int
    body: bytes
    content_type: str
    until: float

    def answer(self) -> Response:
        return Response(self.body, self.status, content_type=self.content_type)


class _View:
    """One kind of view: its places, and what was made last."""

    def __init__(self) -> None:
        self.places = BoundedSemaphore(MAX_CONCURRENT_PER_VIEW)
        self.making = Lock()
        self.kept: _Kept | None = None


class Views:
    """Makes and shares answers. `unread` returns the bytes of answers that clients have not read.
    Safe to use from many threads.
    """

    def __init__(
        self, unread: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._unread, self._monotonic = unread, monotonic
        self._places = BoundedSemaphore(MAX_CONCURRENT)
        self._guard = Lock()
        self._views: dict[str, _View] = {}

    def answer(self, name: str, make: Callable[[], Response]) -> Response:
        """Return what `make` answers, now or a moment ago.

        Raises TooBusyError, TooLargeError and what `make` raises.
        """
        if self._unread() > MAX_UNREAD_BYTES:
            raise TooBusyError
        with self._guard:
            view = self._views.setdefault(name, _View())
        kept = self._still_good(view)
        if kept is not None:
            return kept.answer()
        with taken(view.places), taken(self._places), view.making:
            return (self._still_good(view) or self._make(view, make)).answer()

    def _still_good(self, view: _View) -> _Kept | None:
        kept = view.kept
        return kept if kept is not None and self._monotonic() < kept.until else None

    def _make(self, view: _View, make: Callable[[], Response]) -> _Kept:
        """Make the view on this thread.

        The time it took is the processor's: a wait for the disk is no reason to keep anything.
        """
        view.kept = None
        began = time.thread_time()
        made = make()
        body = made.get_data()
        if len(body) > MAX_PAGE_BYTES:
            raise TooLargeError
        took = time.thread_time() - began
        until = self._monotonic() + min(MAX_CACHE_SECONDS, CACHE_TIME_FACTOR * took)
        view.kept = _Kept(made.status_code, body, made.content_type or "", until)
        return view.kept


@contextmanager
def taken(places: BoundedSemaphore) -> Iterator[None]:
    """Hold a place while the block runs. Raises TooBusyError if none is free."""
    if not places.acquire(blocking=False):
        raise TooBusyError
    try:
        yield
    finally:
        places.release()


__all__ = ["MAX_CONCURRENT", "MAX_PAGE_BYTES", "TooBusyError", "TooLargeError", "Views", "taken"]
