"""Limit for repeated log lines: each text at most once a minute, so that a flood of requests is no
flood of lines.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

QUIET_SECONDS = 60.0
REMEMBERED = 256


class Quiet:
    """Remembers what was logged, within a bound. Safe to use from many threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._guard = monotonic, Lock()
        self._said: OrderedDict[str, float] = OrderedDict()

    def may_say(self, what: str) -> bool:
        """Return whether to log this now, and count it as logged.

        That is so if it was not logged for a minute. Beyond `REMEMBERED` texts, nothing is logged
        for a minute.
        """
        with self._guard:
            now = self._monotonic()
            while self._said and now - next(iter(self._said.values())) >= QUIET_SECONDS:
                self._said.popitem(last=False)
            if what in self._said or len(self._said) >= REMEMBERED:
                return False
            self._said[what] = now
            return True


__all__ = ["Quiet"]
