"""Sync the file systems that a plan writes to, so that no write is lost without an error.

The kernel reports a write that fails on its way to the disk once, to those who had something
open there before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from syncd.mirror.syscalls import hides_write_errors, syncfs


class FilesystemSync:
    """The file systems of one plan, each held open from before its first write.

    So syncd also receives an error that the sync of another process receives meanwhile.
    Source: syncfs(2), errors "since the file was opened"; a descriptor that is opened after the
    error was reported receives nothing of it (seen on Linux 6.18).
    """

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # device -> an open directory
        self._hiding_errors: set[int] = set()  # devices whose sync does not report what was lost
        self.lost: dict[int, OSError] = {}  # device -> the error of one of its files

    def track(self, folder: int) -> None:
        """Open the file system of the open `folder` for the later sync. Raises OSError.

        From now on no write to it is lost without an error.
        """
        device = os.fstat(folder).st_dev
        if device not in self._open:
            if hides_write_errors(folder):
                self._hiding_errors.add(device)
            self._open[device] = os.dup(folder)

    def sync_if_errors_hidden(self, folder: int, file: int | None) -> None:
        """Sync the open file where the sync of its file system would not report an error.

        A link has no descriptor: it is in its folder. Raises OSError, and then so does every sync
        of that file system.
        """
        device = os.fstat(folder).st_dev
        if file is not None and device in self._hiding_errors:
            try:
                os.fsync(file)
            except OSError as error:
                self.lost[device] = error
                raise

    def once_per_filesystem(self) -> Callable[[int], None]:
        """Return a function that syncs the file system of an open directory, each one once.

        Where that failed it raises OSError for every directory on it: which file was lost is not
        known, and a second sync would report success.
        """
        done: dict[int, OSError | None] = dict(self.lost)

        def sync(folder: int) -> None:
            device = os.fstat(folder).st_dev
            if device not in done:
                done[device] = None
                try:
                    syncfs(self._open.get(device, folder))
                except OSError as error:
                    done[device] = error
            failed = done[device]
            if failed is not None:
                raise OSError(failed.errno, failed.strerror)

        return sync

    def close(self) -> None:
        """Close the file systems."""
        while self._open:
            # Whatever close(2) says: nothing was written through it.
            with suppress(OSError):
                os.close(self._open.popitem()[1])
