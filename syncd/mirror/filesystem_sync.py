"""The file systems that a batch writes to. A write that fails on its way to the disk is told once, to whoever had something open there before."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from syncd.mirror.syscalls import hides_write_errors, syncfs


class FilesystemSync:
    """Each is held open from before its first write: an error that another's sync is told of meanwhile is ours to know too.

    Source: syncfs(2), errors "since the file was opened"; and a descriptor that is opened after somebody was told hears nothing of it (seen on Linux 6.18).
    """

    def __init__(self) -> None:
        self._tracked: dict[int, int] = {}  # device -> an open folder
        self._hiding_errors: set[int] = (
            set()
        )  # devices whose sync does not tell what was lost below them
        self.lost: dict[int, OSError] = {}  # device -> what one of its files was told

    def hold(self, folder: int) -> None:
        """Whatever is written from now on to the file system of the open `folder` is not lost unheard. Raises OSError."""
        device = os.fstat(folder).st_dev
        if device not in self._tracked:
            if hides_write_errors(folder):
                self._hiding_errors.add(device)
            self._tracked[device] = os.dup(folder)

    def sync_if_errors_hidden(self, folder: int, file: int) -> None:
        """The open file is on disk, where nobody would tell of it later (`is_mute`). Raises OSError, and then so does every sync of that file system."""
        device = os.fstat(folder).st_dev
        if device in self._hiding_errors:
            try:
                os.fsync(file)
            except OSError as error:
                self.lost[device] = error
                raise

    def once_per_filesystem(self) -> Callable[[int], None]:
        """What syncs the file system of an open folder, each once. Where that failed it raises OSError, for every folder there:
        which file was lost nobody knows, and a second sync would say that all is well.
        """
        done: dict[int, OSError | None] = dict(self.lost)

        def sync(folder: int) -> None:
            device = os.fstat(folder).st_dev
            if device not in done:
                done[device] = None
                try:
                    syncfs(self._tracked.get(device, folder))
                except OSError as error:
                    done[device] = error
            failed = done[device]
            if failed is not None:
                raise OSError(failed.errno, failed.strerror)

        return sync

    def close(self) -> None:
        while self._tracked:
            with suppress(
                OSError
            ):  # let go whatever close(2) says of it: nothing was written through it
                os.close(self._tracked.popitem()[1])
