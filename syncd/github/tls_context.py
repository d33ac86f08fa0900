"""One TLS context for all connections of an identity.

It is made anew when the file of authorities has changed. Nothing of the environment has an
influence. Reading the authorities takes longer than a handshake, so it is not done for each.
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
    """The TLS context for the authorities of `ca_file`, or for the usual ones without a `ca_file`.

    With `add_default` both count.
    Safe from many threads. `owner` is the user of the state, who may write a `ca_file` that root
    reads.
    """

    def __init__(
        self, ca_file: str | None, add_default: bool = False, owner: int | None = None
    ) -> None:
        self._ca_file, self._add_default, self._owner = ca_file, add_default, owner
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._fingerprint: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        """Return the context for the authorities as they are now.

        While their file is missing, the context in use is returned. Raises OSError for authorities
        that can't be read, ConfigError for a `ca_file` that another user may write.
        """
        with self._lock:
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
            raise ConfigError(
                f"ca_file: {left[0].path} {left[0].text}",
                id="config/ca-file-writable",
                hint=left[0].fix,
            )
        return opened

    def _current(self, opened: int) -> ssl.SSLContext:
        """Return the context for the open file; a new one where it is another than before."""
        found = os.fstat(opened)
        fingerprint = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._context is None or fingerprint != self._fingerprint:
            also = [default_ca_file()] if self._add_default and self._ca_file is not None else []
            self._context = client_context(f"/proc/self/fd/{opened}", *also)
            self._fingerprint = fingerprint
        return self._context


__all__ = ["TlsContext"]
