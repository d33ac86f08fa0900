"""What is said in the log about the same thing again and again, at most once a minute: a flood of
requests is no flood of lines.

Promises: bounded, however many different things there are to say.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

QUIET_SECONDS = 60.0
REMEMBERED = 256


class Quiet:
    """Safe to use from many threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._guard = monotonic, Lock()
        self._said: OrderedDict[str, float] = OrderedDict()

    def may_say(self, what: str) -> bool:
        """True when this was not said for a minute; then it counts as said.

        Beyond what is remembered nothing is said for a minute.
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
