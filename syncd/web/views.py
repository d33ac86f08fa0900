"""Limits for answers that read the store: few at once, shared between clients, bounded in bytes.

However many clients ask, some threads stay free for `/healthz` and the webhook. One thread at a
time makes a view; others who ask meanwhile get the last one, if it is some seconds old at most. A
view that took long to make is served again for four times as long, and another variant of it is
made only after that time, so that views take a fifth of a processor at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from flask import Response, request
from msgspec import Struct

MAX_CONCURRENT = 5  # of all views together
MAX_CONCURRENT_PER_VIEW = 2  # of one view: who makes it, and who waits for it
MAX_PAGE_BYTES = 4 << 20  # of one answer
MAX_UNREAD_BYTES = (
    16 << 20
)  # of answers that clients have not taken yet: no further views until they have
CACHE_TIME_FACTOR = 4
MAX_CACHE_SECONDS = 5.0
MAX_STALE_SECONDS = 10.0  # beyond that, while another thread makes the next one


class TooBusyError(Exception):
    """Too many answers are in progress; the client should ask again soon."""


class TooLargeError(Exception):
    """The answer would be larger than a page may be."""


class Personal(Struct, frozen=True):
    """What differs in a view between people: each text of it that another one replaces.

    `tag` is a part of the ETag.
    """

    texts: Mapping[bytes, bytes] = {}
    tag: str = ""

    def filled(self, body: bytes) -> bytes:
        """Return the view for this person."""
        for placeholder, text in self.texts.items():
            body = body.replace(placeholder, text)
        return body


ANY_PERSON = Personal()


class _Kept(Struct, frozen=True):
    variant: str
    status: int
    body: bytes
    content_type: str
    until: float
    etag: str | None
    actions: int

    def answer(self, personal: Personal) -> Response:
        """Return the answer, or 304 where the client has it already."""
        body = personal.filled(self.body)
        made = Response(body, self.status, content_type=self.content_type)
        if self.etag is not None:
            made.set_etag(self.etag + personal.tag)
            made.make_conditional(request)
        return made


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
        self,
        unread: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._unread, self._monotonic, self._sleep = unread, monotonic, sleep
        self._places = BoundedSemaphore(MAX_CONCURRENT)
        self._guard = Lock()
        self._views: dict[str, _View] = {}
        self._actions = 0

    def answer(
        self,
        name: str,
        make: Callable[[], Response],
        variant: str = "",
        personal: Personal = ANY_PERSON,
    ) -> Response:
        """Return what `make` answers, now or a moment ago, for this person. `variant` says what of
        the view is asked for, such as the name of a job.

        Raises TooBusyError, TooLargeError and what `make` raises.
        """
        if self._unread() > MAX_UNREAD_BYTES:
            raise TooBusyError
        with self._guard:
            view = self._views.setdefault(name, _View())
        kept = self._still_good(view, variant)
        if kept is not None:
            return kept.answer(personal)
        try:
            with taken(view.places), taken(self._places), view.making:
                kept = self._still_good(view, variant)
                return (kept or self._make(view, make, variant)).answer(personal)
        except TooBusyError:
            kept = self._recent(view, variant)
            if kept is None:
                raise
            return kept.answer(personal)

    def acted(self) -> None:
        """Make every view anew: a person has done something, and wants to see it."""
        with self._guard:
            self._actions += 1

    def _still_good(self, view: _View, variant: str) -> _Kept | None:
        kept = view.kept
        if kept is None or (kept.variant, kept.actions) != (variant, self._actions):
            return None
        return kept if self._monotonic() < kept.until else None

    def _recent(self, view: _View, variant: str) -> _Kept | None:
        """Return what was made some seconds ago, for those who would have to wait for the next."""
        kept = view.kept
        if kept is None or (kept.variant, kept.actions) != (variant, self._actions):
            return None
        return kept if self._monotonic() < kept.until + MAX_STALE_SECONDS else None

    def _make(self, view: _View, make: Callable[[], Response], variant: str) -> _Kept:
        """Make the view on this thread.

        The time it took is the processor's: a wait for the disk is no reason to keep anything.
        """
        if view.kept is not None and (wait := view.kept.until - self._monotonic()) > 0:
            self._sleep(wait)
        actions = self._actions
        began = time.thread_time()
        made = make()
        body = made.get_data()
        if len(body) > MAX_PAGE_BYTES:
            raise TooLargeError
        took = time.thread_time() - began
        until = self._monotonic() + min(MAX_CACHE_SECONDS, CACHE_TIME_FACTOR * took)
        etag, kind = made.get_etag()[0], made.content_type or ""
        view.kept = _Kept(variant, made.status_code, body, kind, until, etag, actions)
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


__all__ = [
    "ANY_PERSON",
    "MAX_CONCURRENT",
    "MAX_PAGE_BYTES",
    "Personal",
    "TooBusyError",
    "TooLargeError",
    "Views",
    "taken",
]
