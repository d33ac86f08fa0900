"""Looks at the fleet: read when somebody looks, and never waited for longer than a second."""

from __future__ import annotations

import threading
from typing import Any

from syncd.daemon.fleet_watch import FRESH_SECONDS, RETRY_SECONDS, FleetWatch
from syncd.errors import RemoteUnavailableError
from tests.support.clock import FakeClock
from tests.support.fleet_looks import HALTED, WELL

CONFIG: Any = type("Config", (), {"identities": {}, "polled_jobs": {}})()
GONE = RemoteUnavailableError("it is away", id="unavailable/fleet-database")


class Reads:
    """A database that answers what comes next, when it may."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.may_answer = list(answers), threading.Event()
        self.may_answer.set()
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        answer = self.answers.pop(0)
        self.may_answer.wait(60)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_it_reads_when_somebody_looks_and_not_again_for_a_while() -> None:
    clock, reads = FakeClock(), Reads(WELL, HALTED)
    watch = FleetWatch(clock, lambda: CONFIG, reads)
    assert [watch.look().reading for _ in range(3)] == [WELL, WELL, WELL]
    clock.advance(FRESH_SECONDS)
    assert (watch.look().reading, reads.count) == (HALTED, 2)


def test_while_the_database_is_away_there_is_the_last_reading_and_since_when() -> None:
    clock, reads = FakeClock(), Reads(WELL, GONE, GONE, HALTED)
    watch = FleetWatch(clock, lambda: CONFIG, reads)
    began = watch.look().database
    assert (began.up, began.since) == (True, clock.now())
    clock.advance(FRESH_SECONDS)
    gone_at = clock.now()
    for _ in range(2):
        found = watch.look()
        assert found.reading == WELL
        assert (found.database.up, found.database.since) == (False, gone_at)
        assert found.database.error == "it is away"
        clock.advance(RETRY_SECONDS)
    found = watch.look()
    assert (found.database.up, found.reading, reads.count) == (True, HALTED, 4)
    assert found.database.since is not None and found.database.since > gone_at


def test_a_database_that_hangs_holds_up_one_look_for_a_second_and_no_other() -> None:
    clock, reads = FakeClock(), Reads(WELL)
    reads.may_answer.clear()
    watch = FleetWatch(clock, lambda: CONFIG, reads)
    assert watch.look().reading is None
    clock.advance(1.0)
    looks = [watch.look() for _ in range(100)]  # each would take a second
    assert {look.database.up for look in looks} == {None}
    assert reads.count == 1
    reads.may_answer.set()


def test_an_agent_reads_nothing() -> None:
    watch = FleetWatch(FakeClock(), lambda: CONFIG, None)
    assert not watch.has_overview and watch.look().reading is None
