"""Adds many contents to the blob cache: verified one by one, and small ones written in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from syncd.errors import BadResponseError
from syncd.git_objects import blob_id
from syncd.ports import BlobWriter
from syncd.store.small_blobs import MAX_SMALL_BYTES

BATCH_CONTENTS, BATCH_BYTES = (
    250,
    1 << 20,
)  # of one transaction, so that others can write in between
HINT = "nothing of it is used; the next run asks again"


class Cache(BlobWriter, Protocol):
    def add_small(self, contents: Mapping[str, bytes]) -> None: ...


class BulkWriter:
    """The cache for one thread that adds many contents."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0

    def has(self, blob: str) -> bool:
        return blob in self._waiting or self._cache.has(blob)

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """As the cache's own; others find a small content once its batch is written. Raises BadResponseError, StoreError."""
        if size is None or size > MAX_SMALL_BYTES:
            return self._cache.add(blob, chunks, size)
        content = _joined(chunks, size)
        if len(content) != size or blob_id(content) != blob:
            raise other_content(len(content), f"blob {blob}", size)
        self._waiting[blob] = content
        self._waiting_bytes += size
        if len(self._waiting) >= BATCH_CONTENTS or self._waiting_bytes >= BATCH_BYTES:
            self.flush()
        return size

    def flush(self) -> None:
        """Write what waits for its batch. Raises StoreError."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        if waiting:
            self._cache.add_small(waiting)


def _joined(chunks: Iterable[bytes], limit: int) -> bytes:
    parts, count = [], 0
    for chunk in chunks:
        count += len(chunk)
        if count > limit:
            raise too_many(limit)
        parts.append(chunk)
    return b"".join(parts)


def too_many(size: int) -> BadResponseError:
    """The error for content that goes on past its size in bytes."""
    return BadResponseError(f"more than the {size} bytes that it has", hint=HINT)


def other_content(count: int, wanted: str, size: int) -> BadResponseError:
    """The error for content of `count` bytes that is not the one that was asked for, of `size` bytes."""
    return BadResponseError(f"{count} bytes that are not {wanted} ({size} bytes)", hint=HINT)
