"""Contents from the fleet's database: many in one question, each checked by SHA-256 and git id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection

from syncd.deadline import Deadline
from syncd.errors import BadResponseError
from syncd.fleet.link import Link
from syncd.fleet.manifest import ManifestEntry
from syncd.fleet.migrate import statements
from syncd.ports import Blobs
from syncd.progress import Step

BATCH_BYTES = 8 << 20


def fetch_blobs(
    link: Link, wanted: Sequence[ManifestEntry], blobs: Blobs, deadline: Deadline
) -> int:
    """Fetch contents into `blobs`; return their bytes.

    Raises BadResponseError for bytes that are not what the manifest says, or are missing. What was
    checked stays.
    """
    total = sum(one.size for one in wanted)
    deadline.progress.step(Step.FETCHING, files=len(wanted), size_bytes=total)
    for batch in batches(wanted):
        deadline.check()
        with link.begin() as connection:
            found = _read(connection, batch)
        with blobs.bulk_writer() as writer:
            for entry in batch:
                writer.add(entry.blob, [_checked(entry, found)], entry.size)
        deadline.progress.advance(files=len(batch), size_bytes=sum(one.size for one in batch))
    return total


def batches(wanted: Sequence[ManifestEntry]) -> Iterator[list[ManifestEntry]]:
    """Yield the contents in parts of at most `BATCH_BYTES`; a larger one is a part of its own."""
    batch: list[ManifestEntry] = []
    size = 0
    for one in wanted:
        if batch and size + one.size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _read(connection: Connection, wanted: Sequence[ManifestEntry]) -> dict[str, bytes | None]:
    """Return id -> content, None for one of another size.

    The binary protocol sends half the bytes that text would.
    """
    driver = connection.connection.driver_connection
    if driver is None:
        return {}
    ids, sizes = [one.blob for one in wanted], [one.size for one in wanted]
    with driver.cursor(binary=True) as cursor:
        cursor.execute(statements("read_blobs"), (ids, sizes))
        return dict(cursor)


def _checked(entry: ManifestEntry, found: Mapping[str, bytes | None]) -> bytes:
    """Return the entry's content. Raises BadResponseError for any other."""
    content = found.get(entry.blob)
    if entry.blob not in found:
        reason = "lacks it, or this agent may not read it"
    elif content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
        reason = "has other bytes"
    else:
        return content
    raise BadResponseError(
        f"{entry.path[:200]}: its content {entry.blob} can't be used: the fleet's database "
        f"{reason}",
        id="bad_response/fleet-content",
    )


__all__ = ["fetch_blobs"]
