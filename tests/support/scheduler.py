"""APScheduler under a clock of ours: it asks `datetime.now`, and here our clock answers."""

from __future__ import annotations

from datetime import datetime, tzinfo

import apscheduler.schedulers.base
import pytest

from tests.support.clock import FakeClock


def under(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.now().astimezone(tz)

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Ours)
