"""A clock that only moves when it is waited on or told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
        self.seconds = 1000.0
        self.waits: list[float] = []
        self._guard = threading.Lock()

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        with self._guard:
            self.waits.append(seconds)
            self.advance(seconds)
        return stop.is_set()

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds
