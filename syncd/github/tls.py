"""What a server is judged by: one TLS context for all connections of an identity, made anew when the file of authorities is another.

Nothing of the environment has a say in it. Reading the authorities takes longer than a handshake, so it is not done for each.
"""

from __future__ import annotations

import os
import ssl
import threading

from syncd.github.addresses import authorities
from syncd.tls import client_context


class Trust:
    """The authorities of `ca_file`, or the usual ones where there is none; with `beside`, both. Safe from many threads."""

    def __init__(self, ca_file: str | None, beside: bool = False) -> None:
        self._ca_file, self._beside = ca_file, beside
        self._guard = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._mark: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        """For the authorities as they stand now; while their file is away, those in hand go on. Raises OSError for authorities that can't be read."""
        file = self._ca_file or authorities()
        with self._guard:
            try:
                found = os.stat(file)
            except OSError:
                if self._context is None:
                    raise
                return self._context
            mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if self._context is None or mark != self._mark:
                also = [authorities()] if self._beside and self._ca_file is not None else []
                self._context, self._mark = client_context(file, *also), mark
            return self._context


__all__ = ["Trust"]
