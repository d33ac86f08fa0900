"""The private key of a GitHub App, which may be replaced while syncd runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from syncd.clock import Clock
from syncd.errors import ConfigError
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)

MAX_KEY_AGE_SECONDS = 60.0  # how old a reading of the key may be when something is to be signed


class RotatingKey:
    """The App's current private key, and the one before it.

    During a rotation either may be the right one. `read` gives the key anew and raises ConfigError
    where it can't be read; then the key in use stays.
    """

    def __init__(self, key: Secret, read: Callable[[], Secret] | None, clock: Clock) -> None:
        add_secret(key)
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._keys: tuple[Secret, ...] = (key,)
        self._read_at = clock.monotonic()

    def candidates(self) -> Iterator[Secret]:
        """Return the keys to try, each at most once, while the former is refused."""
        self._reload(MAX_KEY_AGE_SECONDS)
        tried: list[Secret] = []
        while True:
            key = next((key for key in self._keys if key not in tried), None)
            if key is None:
                return
            tried.append(key)
            yield key
            self._reload(0.0)  # it was refused: it may have been replaced by now

    def mark_accepted(self, key: Secret) -> None:
        """Try this key first from now on, because GitHub accepts it."""
        with self._lock:
            if self._keys[0] != key:
                log.warning(
                    "GitHub refuses the private key that the configuration names now; "
                    "syncd keeps using the one before it"
                )
                self._keys = (key, *(other for other in self._keys if other != key))

    def _reload(self, max_age_seconds: float) -> None:
        with self._lock:
            if self._read is None or self._clock.monotonic() - self._read_at < max_age_seconds:
                return
            self._read_at = self._clock.monotonic()
            try:
                key = self._read()
            except ConfigError as error:
                log.warning(
                    "the private key can't be read again; syncd keeps using the current one: %s",
                    error,
                )
                return
            if key not in self._keys:
                add_secret(key)
                self._keys = (key, self._keys[0])
                log.warning("a new private key is used from now on")


__all__ = ["RotatingKey"]
