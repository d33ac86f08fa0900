"""Limit for repeated log lines: each text at most once a minute, so that a flood of requests is no
flood of lines.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

LOG_INTERVAL_SECONDS = 60.0
MAX_TEXTS = 256


class LogLimit:
    """Remembers what was logged, within a bound. Safe to use from many threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._guard = monotonic, Lock()
        self._logged_at: OrderedDict[str, float] = OrderedDict()

    def may_log(self, text: str) -> bool:
        """Return whether to log this now, and count it as logged.

        That is so if it was not logged for a minute. Beyond `MAX_TEXTS` texts, nothing is logged
        for a minute.
        """
        with self._guard:
            now = self._monotonic()
            while (
                self._logged_at
                and now - next(iter(self._logged_at.values())) >= LOG_INTERVAL_SECONDS
            ):
                self._logged_at.popitem(last=False)
            if text in self._logged_at or len(self._logged_at) >= MAX_TEXTS:
                return False
            self._logged_at[text] = now
            return True


__all__ = ["LogLimit"]
