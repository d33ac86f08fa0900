"""APScheduler under a fake clock.

APScheduler 3 has no interface for the time: `add_job`, `_process_jobs` and `resume_job` call
`datetime.now` themselves, and `_process_jobs` compares what it says with each job's next time
before a trigger is asked. Two public ways were tried and do not work. A job store that is asked for
due jobs finds them by our clock, but the job's run times are counted by the other one. A time zone
whose `fromutc` answers with our clock is asked to convert the next run's time as well, and would
change it. So the tests replace the name in that one module.
"""

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
