"""What a server is judged by: one TLS context for all connections of an identity, made anew when the file of authorities is another.

Nothing of the environment has a say in it. Reading the authorities takes longer than a handshake, so it is not done for each.
"""

from __future__ import annotations

import os
import ssl
import threading

from syncd.errors import ConfigError
from syncd.github.urls import default_ca_file
from syncd.tls import client_context
from syncd.trusted_path import open_checked, problems_for_owner


class TlsContext:
    """The authorities of `ca_file`, or the usual ones where there is none; with `beside`, both. Safe from many threads.

    `owner` is the user of the state, who may write a `ca_file` that root reads.
    """

    def __init__(self, ca_file: str | None, beside: bool = False, owner: int | None = None) -> None:
        self._ca_file, self._beside, self._owner = ca_file, beside, owner
        self._guard = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._mark: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        """For the authorities as they stand now; while their file is away, those in hand go on.

        Raises OSError for authorities that can't be read, ConfigError for a `ca_file` that another user may write.
        """
        with self._guard:
            try:
                opened = self._open()
            except OSError:
                if self._context is None:
                    raise
                return self._context
            try:
                return self._current(opened)
            finally:
                os.close(opened)

    def _open(self) -> int:
        if self._ca_file is None:
            return os.open(default_ca_file(), os.O_RDONLY | os.O_CLOEXEC)
        opened, doubts = open_checked(self._ca_file, os.O_RDONLY | os.O_NONBLOCK)
        left = problems_for_owner(doubts, self._owner)
        if left:
            os.close(opened)
            raise ConfigError(f"ca_file: {left[0].path} {left[0].text}", hint=left[0].fix)
        return opened

    def _current(self, opened: int) -> ssl.SSLContext:
        """The context for what is in the open file; a new one where that is another than before."""
        found = os.fstat(opened)
        mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._context is None or mark != self._mark:
            also = [default_ca_file()] if self._beside and self._ca_file is not None else []
            self._context, self._mark = client_context(f"/proc/self/fd/{opened}", *also), mark
        return self._context


__all__ = ["TlsContext"]
