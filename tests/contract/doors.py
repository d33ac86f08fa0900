"""Two doors to the simulated GitHub for the source's contract:
in memory behind the transport's shape, and over loopback sockets.
"""

from __future__ import annotations

import io
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, RemoteUnavailableError
from syncd.git_objects import blob_id
from syncd.github.auth.credentials import AuthTransport, StaticToken
from syncd.github.protocol import Request, Response, Transport
from syncd.github.proxies import Proxies
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics
from syncd.github.retry import RetryingTransport
from syncd.github.transport import Network
from syncd.models import TreeEntry
from syncd.redaction import Secret
from syncd.simulator.github import GitHub
from syncd.simulator.server import serve

TOKEN = "ghp_" + "a" * 36


class QuickClock:
    """Real time that nobody waits for: every wait is over at once, and is counted as passed."""

    def __init__(self) -> None:
        self._passed = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self._passed

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self._passed += seconds
        return stop.is_set()


class MemoryResponse:
    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        url: str,
        body: Iterator[bytes],
        cap_bytes: int,
    ) -> None:
        self.status, self.headers, self.url = status, headers, url
        self._body, self._cap = body, cap_bytes

    def chunks(self) -> Iterator[bytes]:
        count = 0
        for chunk in self._body:
            count += len(chunk)
            if count > self._cap:
                raise BadResponseError("longer than it may be")
            yield chunk

    def close(self) -> None:
        """Nothing is held."""


class MemoryTransport:
    """The simulator behind the transport's shape: redirects followed, bodies in small pieces,
    breaks as a socket would show them.
    """

    def __init__(self, github: GitHub) -> None:
        self.github = github

    def send(self, request: Request, deadline: Deadline) -> Response:
        deadline.check()
        url = request.url
        for _ in range(5):
            parts = urlsplit(url)
            headers = dict(request.headers)
            if parts.netloc == "api.test":
                headers["Authorization"] = f"Bearer {TOKEN}"
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            answer = self.github.handle(
                request.method, target, headers, request.body or b"", "https://api.test"
            )
            if answer.status == 0 or answer.hang_seconds:
                raise RemoteUnavailableError("the connection was lost")
            if answer.status not in (301, 302, 307) or "location" not in answer.headers:
                break
            try:
                url = urljoin(url, answer.headers["location"])
            except ValueError as error:
                raise BadResponseError("redirected to something that is no address") from error
        whole = answer.pieces is not None or answer.declared_length in (None, len(answer.body))
        pieces: Iterable[bytes] = (
            answer.pieces if answer.pieces is not None else _sliced(answer.body)
        )
        if answer.headers.get("content-encoding") == "gzip":
            pieces = _unzipped(pieces)
        return MemoryResponse(
            answer.status,
            answer.headers,
            url,
            _ending(pieces, whole and answer.end != "reset"),
            request.max_body_bytes,
        )


def _sliced(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 4096):
        yield body[start : start + 4096]


def _unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    for piece in pieces:
        while piece:
            yield inflater.decompress(piece, 65536)
            piece = inflater.unconsumed_tail


def _ending(pieces: Iterable[bytes], whole: bool) -> Iterator[bytes]:
    yield from pieces
    if not whole:
        raise RemoteUnavailableError("the answer ended early")


@contextmanager
def memory_door(github: GitHub) -> Iterator[tuple[Transport, str]]:
    yield MemoryTransport(github), "https://api.test"


@contextmanager
def socket_door(github: GitHub) -> Iterator[tuple[Transport, str]]:
    clock = QuickClock()
    with serve(github) as served:
        network = Network(
            "ops", clock, RequestMetrics(), RateLimits(clock), ConcurrencyLimit(16), Proxies({})
        )
        try:
            yield (
                RetryingTransport(AuthTransport(network, StaticToken(Secret(TOKEN)), clock), clock),
                served.url,
            )
        finally:
            network.close()


class MemoryBlobs:
    """The blob cache's promise, kept in memory: verified on the way in."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.largest_chunk = 0

    def has(self, blob: str) -> bool:
        return blob in self.content

    def open(self, blob: str) -> BinaryIO:
        return io.BytesIO(self.content[blob])

    @contextmanager
    def bulk_writer(self) -> Iterator[MemoryBlobs]:
        yield self

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        taken = b"".join(chunks)
        if blob_id(taken) != blob or size not in (None, len(taken)):
            raise BadResponseError(f"{len(taken)} bytes that are not blob {blob}")
        self.content[blob] = taken
        return len(taken)

    def sync(self, blobs: Iterable[str]) -> None:
        pass


class Memory:
    """A ListingMemory that counts what it was asked."""

    def __init__(self) -> None:
        self.trees: dict[str, Mapping[str, TreeEntry]] = {}

    def load_listing(self, tree: str) -> Mapping[str, TreeEntry] | None:
        return self.trees.get(tree)

    def save_listing(self, tree: str, entries: Mapping[str, TreeEntry]) -> None:
        self.trees[tree] = dict(entries)


def deadline(seconds: float = 60.0) -> Deadline:
    return Deadline(QuickClock(), seconds)


__all__ = ["Memory", "MemoryBlobs", "QuickClock", "deadline", "memory_door", "socket_door"]
