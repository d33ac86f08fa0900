"""A file that is complete and waits for its name."""

from __future__ import annotations

import os

from msgspec import Struct

from syncd.mirror.racy import is_coarse
from syncd.mirror.scan import stat_of
from syncd.models import Action


class TempFile(Struct):
    """A temporary file beside its destination, with its final mode.

    Its descriptor stays open until it is synced: once that is closed, memory may lose the file, and with it what its disk has said of it. It
    is closed before the file gets its name: a program that is open for writing can't be run.
    """

    action: Action
    temporary: str
    size: int
    descriptor: int | None = None
    synced: bool = False
    named: bool = False  # on disk too: until then a power cut can make it a temporary file again
    mtime_ns: int = 0  # after the last write to it

    def record_mtime(self, folder: int) -> bool:
        """Nothing of ours writes to it any more. Whether its file system stamps finer than seconds."""
        if self.descriptor is not None:
            found = os.fstat(self.descriptor)
        else:
            found = os.stat(self.temporary, dir_fd=folder, follow_symlinks=False)
        self.mtime_ns = found.st_mtime_ns
        return not is_coarse(stat_of(found))

    def sync(self, _action: Action) -> None:
        """Raises OSError."""
        if self.descriptor is not None:
            os.fsync(self.descriptor)
            self.synced = True

    def settle(self, _action: Action) -> None:
        """It is on disk, and needs no descriptor any more. Raises OSError."""
        self.close()
        self.synced = True

    def close(self) -> None:
        """Raises OSError for what some file systems say only now (close(2))."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)
