"""How often one request is sent to GitHub: the only place that retries temporary failures.

Lost connections, 5xx answers and bodies that break off share one count, so that layers around each
other never multiply it. The refresh of a user's login has rules of its own
(auth/user_credentials.py), and what fails for good is left to the daemon's back-off
(daemon/backoff.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from syncd.deadline import Deadline
from syncd.github.bounds import CONNECT_SECONDS

MAX_ATTEMPTS = 4
BACKOFF_SECONDS = 0.5


class Attempts:
    """The attempts at one request. `random_fraction` gives a random number in [0, 1)."""

    def __init__(
        self, tries: int = MAX_ATTEMPTS, random_fraction: Callable[[], float] = random.random
    ) -> None:
        self._tries, self._random_fraction, self._lost = tries, random_fraction, 0

    def next_delay_seconds(self, deadline: Deadline, answered: bool) -> float | None:
        """Count an attempt that failed; return the seconds to wait before the next one.

        None when the request is not to be sent again. The wait grows, with full jitter.
        `answered`: GitHub sent an answer, which the run's request count includes.
        """
        self._lost += 1
        seconds = self._random_fraction() * BACKOFF_SECONDS * float(2**self._lost)
        if self._lost >= self._tries or not deadline.may_retry:
            return None
        if seconds >= deadline.remaining_seconds():
            return None
        deadline.retry_count += answered
        return seconds

    def last_ends_at(self, deadline: Deadline) -> datetime | None:
        """Return when the last attempt ends at the latest, while no connection can be made.

        None when there is no further attempt.
        """
        left = range(self._lost + 1, self._tries) if deadline.may_retry else range(0)
        if not left or deadline.remaining_seconds() <= 0:
            return None
        longest = sum(BACKOFF_SECONDS * 2**number + CONNECT_SECONDS for number in left)
        seconds = min(longest, deadline.remaining_seconds())
        return deadline.clock.now() + timedelta(seconds=seconds)


__all__ = ["BACKOFF_SECONDS", "MAX_ATTEMPTS", "Attempts"]
