"""Imports the pack files in which an older version of syncd stored small contents, and removes
them.

A pack was two files: NAME.pack with contents one after another, and NAME.index with a record of 32
bytes for each (blob id, offset, size; big-endian). Content that does not match its id is skipped.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from syncd.git_objects import blob_id
from syncd.ports import Blobs
from syncd.store.location import open_nofollow

RECORD = struct.Struct(">20sQI")
MAX_PACKED_BYTES = 256 << 10


def import_packs(folder: Path, cache: Blobs) -> None:
    """Add every intact content of the packs to the cache, sync, and remove the packs.

    Raises OSError, StoreError.
    """
    if not folder.is_dir():
        return
    with cache.bulk_writer() as into:
        for index in sorted(folder.glob("*.index")):
            for content in _contents(index):
                into.add(blob_id(content), [content], len(content))
    os.sync()  # a power cut must not lose both copies: a rollback may need them
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _contents(index: Path) -> Iterator[bytes]:
    with suppress(OSError):  # a pack that cannot be read has no content
        with open(open_nofollow(index, os.O_RDONLY), "rb") as file:
            body = file.read()
        with open(open_nofollow(index.with_suffix(".pack"), os.O_RDONLY), "rb") as pack:
            for identity, offset, size in RECORD.iter_unpack(
                body[: len(body) - len(body) % RECORD.size]
            ):
                if size <= MAX_PACKED_BYTES and offset <= os.fstat(pack.fileno()).st_size:
                    content = os.pread(pack.fileno(), size, offset)
                    if blob_id(content) == identity.hex():
                        yield content
