"""The file systems that a batch writes to. A write that fails on its way to the disk is told once, to whoever had something open there before."""

from __future__ import annotations

import os
from collections.abc import Callable

from syncd.mirror.kernel import syncfs


class FileSystems:
    """Each is held open from before its first write: an error that another's sync is told of meanwhile is ours to know too.

    Source: syncfs(2), errors "since the file was opened"; and a descriptor that is opened after somebody was told hears nothing of it (seen on Linux 6.18).
    """

    def __init__(self) -> None:
        self._held: dict[int, int] = {}  # device -> an open folder

    def hold(self, folder: int) -> None:
        """Whatever is written from now on to the file system of the open `folder` is not lost unheard. Raises OSError."""
        device = os.fstat(folder).st_dev
        if device not in self._held:
            self._held[device] = os.dup(folder)

    def each_once(self) -> Callable[[int], None]:
        """What syncs the file system of an open folder, each once. Where that failed it raises OSError, for every folder there:
        which file was lost nobody knows, and a second sync would say that all is well.
        """
        done: dict[int, OSError | None] = {}

        def sync(folder: int) -> None:
            device = os.fstat(folder).st_dev
            if device not in done:
                done[device] = None
                try:
                    syncfs(self._held.get(device, folder))
                except OSError as error:
                    done[device] = error
            failed = done[device]
            if failed is not None:
                raise OSError(failed.errno, failed.strerror)

        return sync

    def let_go(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])
