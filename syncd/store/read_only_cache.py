"""The blob cache for a command that only looks: reads what is there and changes nothing of it.

What such a command has to download (`plan --diff`) goes to a private temporary folder, which ends with the command. A damaged blob is
passed over, not removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from syncd.git_objects import blob_hasher, size_of
from syncd.store.blobs import NEVER, BlobCache
from syncd.store.location import open_nofollow
from syncd.store.small_blobs import SmallBlobs
from syncd.tree_walk import remove

CHUNK = 1 << 20


class ReadOnlyCache(BlobCache):
    """Reads from `directory`, and writes to a folder of its own. `close` removes that."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Path(tempfile.gettempdir()) / f"syncd-{secrets.token_hex(16)}")
        self._lender = directory
        self._lent_small = SmallBlobs(BlobCache(directory).small_file, read_only=True)

    @property
    def small_file(self) -> Path:
        """In the private folder: beside it anybody could have put one."""
        return self.directory / "cache.db"

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """Keep others from evicting what is read here while the block runs, where their lock can be read."""
        with ExitStack() as stack:
            with suppress(OSError):
                descriptor = open_nofollow(self._lender / "lock", os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    def has(self, blob: str) -> bool:
        """Return whether the content is here or in the lender's cache, whole."""
        if super().has(blob):
            return True
        try:
            self._borrow(blob).close()
        except KeyError:
            return False
        return True

    def open(self, blob: str) -> BinaryIO:
        """As the cache's own. Raises KeyError; a damaged file of the lender's stays."""
        return super().open(blob) if super().has(blob) else self._borrow(blob)

    def close(self) -> None:
        """Remove what was downloaded."""
        self._small.close()
        self._lent_small.close()
        with suppress(OSError):
            above = os.open(self.directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                remove(above, self.directory.name)
            finally:
                os.close(above)

    def _borrow(self, blob: str) -> BinaryIO:
        for content in self._lent(blob):
            with suppress(OSError):  # a disk that can't give it back has lost it
                hasher = blob_hasher(size_of(content))
                while chunk := content.read(CHUNK):
                    hasher.update(chunk)
                if hasher.hexdigest() == blob:
                    content.seek(0)
                    return content
            content.close()
        raise KeyError(blob)

    def _lent(self, blob: str) -> Iterator[BinaryIO]:
        """Every copy that the lender has, unproven."""
        small = self._lent_small.read(blob, NEVER, NEVER)
        if small is not None:
            yield BytesIO(small)
        with suppress(OSError):
            name = self._lender / blob[:2] / blob[2:]
            yield os.fdopen(open_nofollow(name, os.O_RDONLY), "rb")
