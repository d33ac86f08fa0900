"""A clock for whole commands over real sockets: it stands still unless somebody waits,
and a wait is over at once.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class PassingClock:
    """Whoever asks for the time sees a wait passed.

    `asleep` moves the wall clock alone, as a suspended machine's does.
    """

    def __init__(self) -> None:
        self.began, self.seconds, self.asleep, self.waits = (
            datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
            0.0,
            0.0,
            list[float](),
        )
        self._guard = threading.Lock()

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds + self.asleep)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        with self._guard:
            self.waits.append(round(seconds, 3))
            self.seconds += seconds
        return stop.is_set()

    def advance(self, seconds: float) -> None:
        with self._guard:
            self.seconds += seconds
