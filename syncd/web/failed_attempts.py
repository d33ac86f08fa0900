"""Limits on wrong passwords and wrong signatures, per client and over all clients.

No thread waits: a client over its limit gets 429 with Retry-After. A flood of failures does not
lock out a client with the right password: failures of one client cost another nothing, a client
that was right before is not counted with the others, and one that has not failed yet has a budget
of its own. Memory is bounded, however many addresses an attacker has.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

CLIENT_BURST, CLIENT_REFILL_SECONDS = (
    10,
    6.0,
)  # of one client: so many, then one every so many seconds
NEW_CLIENTS_BURST, NEW_CLIENTS_REFILL_SECONDS = (
    60,
    0.2,
)  # first tries of all clients that have not failed lately
FAILED_CLIENTS_BURST, FAILED_CLIENTS_REFILL_SECONDS = (
    40,
    0.5,
)  # further tries of all clients that have
MAX_FAILED_CLIENTS = 1024  # clients that failed
MAX_KNOWN_CLIENTS = 256  # clients that were right


class TokenBucket:
    """A token bucket: `at_once` tries, and another one every `seconds`."""

    def __init__(self, at_once: int, seconds: float, now: float) -> None:
        self._at_once, self._seconds = at_once, seconds
        self._left, self._at = float(at_once), now

    def wait_seconds(self, now: float) -> float:
        """Return 0 if a try is left, else the seconds until one is."""
        self._left = min(self._at_once, self._left + max(0.0, now - self._at) / self._seconds)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) * self._seconds

    def add(self, tries: float) -> None:
        """Add tries; a negative number takes some."""
        self._left = min(self._at_once, self._left + tries)

    @property
    def is_full(self) -> bool:
        """Return whether all tries are available again."""
        return self._left >= self._at_once


class FailureLimits:
    """Limits tries. Call `take` before a comparison and `succeeded` after a right one. Safe to use
    from many threads.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._guard = monotonic, Lock()
        now = monotonic()
        self._new = TokenBucket(NEW_CLIENTS_BURST, NEW_CLIENTS_REFILL_SECONDS, now)
        self._all = TokenBucket(FAILED_CLIENTS_BURST, FAILED_CLIENTS_REFILL_SECONDS, now)
        self._each: OrderedDict[str, TokenBucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def take(self, client: str, alone: bool = False) -> int:
        """Count a try and return 0, or return the seconds until the client may try again.

        `alone`: failures of other clients take nothing from this one.
        """
        with self._guard:
            now = self._monotonic()
            mine = self._each.get(client) or TokenBucket(CLIENT_BURST, CLIENT_REFILL_SECONDS, now)
            overall = self._all if client in self._each else self._new
            buckets = [mine] if alone or client in self._known else [mine, overall]
            wait = max(one.wait_seconds(now) for one in buckets)
            if wait > 0:
                return max(1, math.ceil(wait))
            for one in buckets:
                one.add(-1)
            _remember(self._each, client, mine, MAX_FAILED_CLIENTS)
            return 0

    def refuses(self, client: str) -> bool:
        """Return whether the client has no try left of its own. Counts nothing."""
        with self._guard:
            mine = self._each.get(client)
            return mine is not None and mine.wait_seconds(self._monotonic()) > 0

    def succeeded(self, client: str) -> None:
        """Give the try back, because it was right, and remember the client as known."""
        with self._guard:
            mine = self._each.get(client)
            if mine is not None:
                mine.add(1)
                if mine.is_full:
                    del self._each[client]
            _remember(self._known, client, None, MAX_KNOWN_CLIENTS)


def _remember(table: OrderedDict[str, Any], client: str, value: Any, most: int) -> None:
    """Make the client the newest entry, and drop the oldest entries beyond `most`."""
    table[client] = value
    table.move_to_end(client)
    while len(table) > most:
        table.popitem(last=False)


__all__ = ["FailureLimits"]
