"""A file or link that is complete and waits for its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import Struct

from syncd.git_objects import size_of
from syncd.mirror.attributes import LostAttributes, copy_attributes
from syncd.mirror.file_ops import chown_id, read_cached, write_new
from syncd.mirror.metadata import check_file
from syncd.mirror.ordering import entry_written
from syncd.mirror.racy import FINE_STEP_NS, is_coarse
from syncd.mirror.scan import stat_of
from syncd.models import Action
from syncd.ports import BlobReader


class TempFile(Struct):
    """A temporary file beside its destination, with its final mode.

    Its descriptor stays open until it is synced: once that is closed, memory may lose the file, and
    with it what the disk has reported about it. It is closed before the file gets its name: a
    program that is open for writing can't be run.

    `is_named`: it has its name on disk too; until then a power cut can make it a temporary file
    again. `mtime_ns` is its mtime from before every write that follows.
    """

    action: Action
    temporary: str
    size: int
    descriptor: int | None = None
    synced: bool = False
    is_named: bool = False
    mtime_ns: int = 0

    def write_link(self, folder: int, blobs: BlobReader) -> None:
        """Make the link in the open `folder`. Raises KeyError, MirrorError, OSError."""
        wanted = entry_written(self.action)
        with blobs.open(wanted.blob) as content:
            os.symlink(content.read(), os.fsencode(self.temporary), dir_fd=folder)
        if wanted.uid is not None or wanted.gid is not None:
            ids = chown_id(wanted.uid), chown_id(wanted.gid)
            os.chown(self.temporary, *ids, dir_fd=folder, follow_symlinks=False)
            found = os.stat(self.temporary, dir_fd=folder, follow_symlinks=False)
            check_file(self.action.path, wanted, found)
        # Its text lives in the inode and the directory, which is synced after the rename.
        self.synced = True

    def write_file(
        self,
        folder: int,
        blobs: BlobReader,
        open_replaced: Callable[[int, Action], int | None],
        lost: LostAttributes,
    ) -> None:
        """Write the file in the open `folder`. Its descriptor stays open.

        It gets the ACL, `user.*` attributes and label of the file that it replaces; the rename
        checks that this file has not changed since. Raises KeyError, MirrorError, OSError.
        """
        wanted = entry_written(self.action)
        # Verified as it is written: to read fifty megabytes twice took a twentieth of their run.
        with blobs.open_unverified(wanted.blob) as content:
            self.size = size_of(content)
            read = partial(read_cached, content, wanted)
            self.descriptor = new = write_new(folder, self.temporary, read, wanted, self.size)
        old = open_replaced(folder, self.action)
        if old is not None:
            try:
                copy_attributes(old, new, wanted.mode, self.action.path, lost)
            finally:
                os.close(old)
        check_file(self.action.path, wanted, os.fstat(new))

    def age_mtime(self, folder: int) -> bool:
        """Set the mtime back by one step of the clock that files are stamped with, and record it.

        Return whether every later write changes it. It does not where the file system keeps another
        time than the one that was set. Where it stamps in seconds, nothing is set: the next run
        reads the file (racy.py).
        """
        stamped = self._stat(folder)
        self.mtime_ns = stamped.st_mtime_ns
        if is_coarse(stat_of(stamped)):
            return True
        aged_ns = stamped.st_mtime_ns - FINE_STEP_NS
        with suppress(OSError):  # not everyone may set the times of a file of another owner
            self._set_mtime(folder, stamped.st_atime_ns, aged_ns)
        self.mtime_ns = self._stat(folder).st_mtime_ns
        return self.mtime_ns <= aged_ns

    def _stat(self, folder: int) -> os.stat_result:
        if self.descriptor is not None:
            return os.fstat(self.descriptor)
        return os.stat(self.temporary, dir_fd=folder, follow_symlinks=False)

    def _set_mtime(self, folder: int, atime_ns: int, mtime_ns: int) -> None:
        times = (atime_ns, mtime_ns)
        if self.descriptor is not None:
            os.utime(self.descriptor, ns=times)
        else:
            os.utime(self.temporary, ns=times, dir_fd=folder, follow_symlinks=False)

    def sync(self, _action: Action) -> None:
        """Sync the file to disk. Raises OSError."""
        if self.descriptor is not None:
            os.fsync(self.descriptor)
            self.synced = True

    def finish_sync(self, _action: Action) -> None:
        """Close the descriptor of a file that is on disk now. Raises OSError."""
        self.close()
        self.synced = True

    def close(self) -> None:
        """Close the descriptor. Raises OSError for what some file systems report only now."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)
