"""Adds many contents to the blob cache: each is verified, and small ones are written in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from syncd.errors import BadResponseError
from syncd.git_objects import blob_id
from syncd.ports import BlobWriter
from syncd.store.small_blobs import MAX_SMALL_BYTES

# Of one transaction, so that other processes can write in between.
BATCH_CONTENTS = 250
BATCH_BYTES = 1 << 20
HINT = "nothing of it is used; the next run requests it again"


class Cache(BlobWriter, Protocol):
    """What the writer needs of the blob cache."""

    def add_small(self, contents: Mapping[str, bytes]) -> None:
        """Add verified small contents. Raises StoreError."""


class BulkWriter:
    """Adds contents to the cache for one thread."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0

    def has(self, blob: str) -> bool:
        """Return whether the content is in the cache, or in the batch to be written."""
        return blob in self._waiting or self._cache.has(blob)

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """Add one content; return the number of bytes.

        Other threads find a small one once its batch is written.

        Raises BadResponseError for other content, StoreError.
        """
        if size is None or size > MAX_SMALL_BYTES:
            return self._cache.add(blob, chunks, size)
        content = _join(chunks, size)
        if len(content) != size or blob_id(content) != blob:
            raise other_content(len(content), f"blob {blob}", size)
        self._waiting[blob] = content
        self._waiting_bytes += size
        if len(self._waiting) >= BATCH_CONTENTS or self._waiting_bytes >= BATCH_BYTES:
            self.flush()
        return size

    def flush(self) -> None:
        """Write the batch. Raises StoreError."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        if waiting:
            self._cache.add_small(waiting)


def _join(chunks: Iterable[bytes], limit: int) -> bytes:
    parts, count = [], 0
    for chunk in chunks:
        count += len(chunk)
        if count > limit:
            raise too_many(limit)
        parts.append(chunk)
    return b"".join(parts)


def too_many(size: int) -> BadResponseError:
    """Return the error for content that is longer than its size in bytes."""
    return BadResponseError(
        f"more than the {size} bytes that it has", id="bad_response/wrong-content", hint=HINT
    )


def other_content(count: int, wanted: str, size: int) -> BadResponseError:
    """Return the error for `count` bytes of content that do not match what was requested, of `size`
    bytes.
    """
    return BadResponseError(
        f"{count} bytes that are not {wanted} ({size} bytes)",
        id="bad_response/wrong-content",
        hint=HINT,
    )
