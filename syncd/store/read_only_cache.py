"""The blob cache for a command that only reads: it uses what is there and changes nothing of it.

What such a command has to download (`plan --diff`) goes to a private temporary folder, which is
removed at the end. A damaged blob is skipped, not removed.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from syncd.file_lock import acquire, release
from syncd.git_objects import blob_hasher, size_of
from syncd.store.blobs import NEVER, BlobCache
from syncd.store.location import open_nofollow
from syncd.store.small_blobs import SmallBlobs
from syncd.tree_walk import remove

CHUNK_BYTES = 1 << 20


class ReadOnlyCache(BlobCache):
    """Reads from `directory`, and writes to a temporary directory of its own, which `close`
    removes.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(Path(tempfile.gettempdir()) / f"syncd-{secrets.token_hex(16)}")
        self._source = directory
        self._source_small = SmallBlobs(BlobCache(directory).small_file, read_only=True)

    @property
    def small_file(self) -> Path:
        """The file in the private directory: beside it, another user could have put one."""
        return self.directory / "cache.db"

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """Keep other processes from evicting what is read during the block, where the lock file can
        be read.
        """
        with ExitStack() as stack:
            with suppress(OSError):
                lock = acquire(self._source / "lock", shared=True, wait=True, create=False)
                stack.callback(release, lock)
            yield

    def has(self, blob: str) -> bool:
        """Return whether the content is in the temporary directory, or intact in the source."""
        if super().has(blob):
            return True
        try:
            self._open_source(blob).close()
        except KeyError:
            return False
        return True

    def open(self, blob: str) -> BinaryIO:
        """Open the content, verified. Raises KeyError; a damaged file of the source stays."""
        return super().open(blob) if super().has(blob) else self._open_source(blob)

    def close(self) -> None:
        """Remove what was downloaded."""
        self._small.close()
        self._source_small.close()
        with suppress(OSError):
            above = os.open(self.directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                remove(above, self.directory.name)
            finally:
                os.close(above)

    def _open_source(self, blob: str) -> BinaryIO:
        for content in self._copies(blob):
            with suppress(OSError):  # what the disk cannot return is lost
                hasher = blob_hasher(size_of(content))
                while chunk := content.read(CHUNK_BYTES):
                    hasher.update(chunk)
                if hasher.hexdigest() == blob:
                    content.seek(0)
                    return content
            content.close()
        raise KeyError(blob)

    def _copies(self, blob: str) -> Iterator[BinaryIO]:
        """Yield each copy that the source has, unverified."""
        small = self._source_small.read(blob, NEVER, NEVER)
        if small is not None:
            yield BytesIO(small)
        with suppress(OSError):
            name = self._source / blob[:2] / blob[2:]
            yield os.fdopen(open_nofollow(name, os.O_RDONLY), "rb")
