"""An agent's connection after failures: agents that lost the database together come back spread."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.errors import RemoteUnavailableError
from syncd.fleet.link import Link
from tests.support.clock import FakeClock


class Database:
    """Fails with `error` until the clock has `back_at`."""

    def __init__(self, clock: FakeClock, back_at: float, error: str) -> None:
        self.clock, self.back_at, self.error = clock, back_at, error

    @contextmanager
    def begin(self) -> Iterator[None]:
        if self.clock.monotonic() < self.back_at:
            raise RemoteUnavailableError("it is away", id=self.error)
        yield


def reconnects(agents: int, away_seconds: float, seed: int = 1) -> list[float]:
    """When each agent reads again, in seconds after the database is back."""
    clock, random = FakeClock(), Random(seed)
    back_at = clock.monotonic() + away_seconds
    links = [
        Link(Database(clock, back_at, "unavailable/fleet-database"), clock, random.random)  # type: ignore[arg-type]
        for _ in range(agents)
    ]
    tries = [(clock.monotonic(), number, 0) for number in range(agents)]
    heapq.heapify(tries)
    done = []
    while tries:
        at, number, failures = heapq.heappop(tries)
        clock.seconds = at
        try:
            with links[number].begin():
                done.append(at - back_at)
        except RemoteUnavailableError:
            heapq.heappush(
                tries, (at + links[number].pause_seconds(failures), number, failures + 1)
            )
    return done


@pytest.mark.parametrize(
    ("away_seconds", "all_back_after", "most_in_a_tenth"),
    [(3.0, 16.0, 120), (30.0, 60.0, 60), (600.0, 60.0, 50), (36_000.0, 60.0, 50)],
)
def test_two_hundred_agents_come_back_one_after_another(
    away_seconds: float, all_back_after: float, most_in_a_tenth: int
) -> None:
    times = reconnects(200, away_seconds)
    tenths = Counter(int(time / all_back_after * 10) for time in times)
    assert max(times) <= all_back_after
    assert max(tenths.values()) <= most_in_a_tenth, tenths


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        ("unavailable/fleet-database", True),
        ("unavailable/fleet-read-only", False),
        ("unavailable/fleet-busy", False),
        ("unavailable/fleet-full", False),
    ],
)
def test_a_database_that_answers_is_not_away(error: str, is_away: bool) -> None:
    clock = FakeClock()
    link = Link(Database(clock, clock.monotonic() + 9, error), clock)  # type: ignore[arg-type]
    with pytest.raises(RemoteUnavailableError), link.begin():
        pass
    assert link.is_away is is_away
