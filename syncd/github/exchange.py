"""One HTTP exchange on a thread of its own, and its answer, bounded in bytes and time.

The thread lets a signal or the deadline end the wait, whatever the server does. What a failure
means is decided by the caller (network_errors.py).
"""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from urllib3.response import HTTPResponse

from syncd.deadline import Deadline, no_limit
from syncd.errors import BadResponseError, RemoteUnavailableError
from syncd.github.connections import Watch
from syncd.github.network_errors import innermost_reason
from syncd.github.protocol import Request

# For the end of an answer that nothing reads: one without a body is there at once, and its
# connection serves again.
DRAIN_TIMEOUT_SECONDS = 0.2
POLL_INTERVAL_SECONDS = 0.5  # how soon a read notices a signal
CHUNK_BYTES = 128 << 10
MAX_QUEUED_CHUNKS = 8

Event = HTTPResponse | bytes | Exception | None


class Exchange:
    """One request on a thread of its own.

    The thread puts the head, then the body's pieces as they come, then the end or the error into
    a short queue. When the exchange is cancelled, its socket is shut down, which ends whatever it
    is doing there. `on_end` is called when the thread has ended. `ends_at` is on the monotonic
    clock.
    """

    def __init__(
        self,
        send: Callable[[], HTTPResponse],
        watch: Watch,
        on_end: Callable[[], None],
        subject: str,
        ends_at: float | None,
    ) -> None:
        self._send, self._watch, self._on_end = send, watch, on_end
        self._subject, self._ends_at = subject, ends_at
        self._queue: queue.Queue[Event] = queue.Queue(maxsize=MAX_QUEUED_CHUNKS)
        self._cancelled, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._work, name="syncd-request", daemon=True).start()

    def _work(self) -> None:
        raw: HTTPResponse | None = None
        try:
            self._watch.activate()
            raw = self._send()
            self._put(raw)
            if self._pass_on_body(raw):
                self._watch.detach()
                raw.release_conn()
                raw = None
                self._put(None)
        except Exception as error:  # noqa: BLE001  (the waiting thread translates it)
            self._put(error)
        finally:
            if raw is not None:
                raw.close()
                raw.release_conn()
            self._watch.detach()
            self._on_end()
            self._ended.set()

    def _pass_on_body(self, raw: HTTPResponse) -> bool:
        """Put the body's pieces into the queue; return whether the body came to its end."""
        # `read1` gives what is there: `stream` would wait for a dripping chunk to fill
        while chunk := raw.read1(CHUNK_BYTES, decode_content=False):
            if not self._put(chunk):
                return False
        return True

    def _put(self, found: Event) -> bool:
        while not self._cancelled.is_set():
            try:
                self._queue.put(found, timeout=POLL_INTERVAL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    @property
    def is_sent(self) -> bool:
        """Whether the request's head has been given to a connection."""
        return self._watch.is_sent

    def next(self, deadline: Deadline, on_poll: Callable[[], None] = no_limit) -> Event:
        """Return what comes next: the head, a piece of the body, an error, or None for the end.

        `on_poll` is called before each wait of at most half a second. Raises as `Deadline.check`
        does, and RemoteUnavailableError when the answer takes longer than its kind may.
        """
        while True:
            deadline.check()
            on_poll()
            if self._ends_at is not None and deadline.clock.monotonic() > self._ends_at:
                raise ended_early(self._subject, "it took too long as a whole")
            wait = min(POLL_INTERVAL_SECONDS, deadline.remaining_seconds() + 0.01)
            with suppress(queue.Empty):
                return self._queue.get(timeout=wait)

    def cancel(self) -> None:
        """Stop reading.

        An exchange that is about to end by itself may do so, and its connection is kept; any
        other socket is shut down.
        """
        self._cancelled.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        if not self._ended.wait(DRAIN_TIMEOUT_SECONDS):
            self._watch.cancel()


class StreamedResponse:
    """A response whose body is read within a byte limit and the deadline, and ends at a signal."""

    def __init__(
        self, request: Request, raw: HTTPResponse, exchange: Exchange, deadline: Deadline
    ) -> None:
        self.status, self.url = raw.status, request.url
        # names in lower case; what comes twice is joined
        self.headers: Mapping[str, str] = {name.lower(): raw.headers[name] for name in raw.headers}
        self._request, self._exchange, self._deadline = request, exchange, deadline

    def chunks(self) -> Iterator[bytes]:
        """Return the decoded body in pieces.

        Raises RemoteUnavailableError when it ends early, BadResponseError past the request's
        limit.
        """
        count, limit = 0, self._request.max_body_bytes
        try:
            self._check_announced_length(limit)
            for chunk in self._decoded():
                count += len(chunk)
                if count > limit:
                    raise self._too_long(f"is longer than the {limit} bytes it may have")
                yield chunk
        finally:
            self._exchange.cancel()

    def _check_announced_length(self, limit: int) -> None:
        length = self.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > limit:
            raise self._too_long(f"says it has {length} bytes, more than the {limit} it may have")

    def _too_long(self, text: str) -> BadResponseError:
        return BadResponseError(
            f"the answer for {self._request.subject} {text}",
            id="bad_response/too-large",
            hint="nothing was changed",
        )

    def _decoded(self) -> Iterator[bytes]:
        """Return the body without its content coding.

        It is unpacked here and not by the library, so that a compression bomb is met piece by
        piece, and a cut is noticed.
        """
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in ("", "identity"):
            yield from self._pieces()
        elif coding in ("gzip", "x-gzip"):
            yield from _inflated(self._pieces(), self._request.subject)
        else:
            raise BadResponseError(
                f"the answer for {self._request.subject} has a content encoding that syncd did "
                f"not accept ({coding[:20]!r})",
                id="bad_response/content-encoding",
                hint="nothing was changed",
            )

    def _pieces(self) -> Iterator[bytes]:
        while (piece := self._exchange.next(self._deadline)) is not None:
            if isinstance(piece, BadResponseError):
                raise piece
            if isinstance(piece, Exception):
                raise ended_early(self._request.subject, innermost_reason(piece)) from piece
            if isinstance(piece, HTTPResponse):
                raise TypeError("a second head in one answer")
            yield piece

    def close(self) -> None:
        """End the exchange; what is not read yet is discarded."""
        self._exchange.cancel()


def ended_early(subject: str, reason: str) -> RemoteUnavailableError:
    """Return the error for an answer that ended before its end."""
    return RemoteUnavailableError(
        f"the answer for {subject} ended early: {reason}",
        id="unavailable/ended-early",
        hint="nothing was changed; the next run asks again",
    )


def _inflated(pieces: Iterator[bytes], subject: str) -> Iterator[bytes]:
    """Unpack gzip, at most `CHUNK_BYTES` at a time.

    Raises RemoteUnavailableError for what is damaged or cut.
    """
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        for piece in pieces:
            while piece:
                begun = True
                yield inflater.decompress(piece, CHUNK_BYTES)
                piece = inflater.unconsumed_tail
                if inflater.eof and inflater.unused_data:  # a second member follows
                    piece, inflater = inflater.unused_data, zlib.decompressobj(wbits=31)
        yield inflater.flush()
    except zlib.error as error:
        raise ended_early(subject, "its compression is damaged") from error
    if begun and not inflater.eof:
        raise ended_early(subject, "its compression was cut")


__all__ = ["Exchange", "StreamedResponse", "ended_early"]
