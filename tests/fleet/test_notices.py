"""What an agent hears, over a real PostgreSQL."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.clock import SystemClock
from syncd.errors import RemoteUnavailableError
from syncd.fleet.link import Link
from syncd.fleet.notices import Notices
from tests.support.fleet import Fleet

pytestmark = pytest.mark.postgresql


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.fleet.notices.MAX_WAIT_SECONDS", 0.1)


def test_the_first_connection_after_a_failure_starts_every_job(fleet: Fleet) -> None:
    heard: list[str | None] = []
    database = fleet.database("web01", connections=1)
    link = Link(database, SystemClock(), jitter=lambda: 0.0)
    notices = Notices(link, SystemClock(), heard.append)
    fleet.cluster.execute("ALTER ROLE web01 CONNECTION LIMIT 0")
    try:
        with pytest.raises(RemoteUnavailableError, match="too many connections"):
            notices.wait()
    finally:
        fleet.cluster.execute("ALTER ROLE web01 CONNECTION LIMIT 3")
    assert heard == []
    notices.wait()
    database.close()
    assert heard == [None]


def test_a_first_connection_without_a_failure_starts_nothing(fleet: Fleet) -> None:
    heard: list[str | None] = []
    database = fleet.database("web01", connections=1)
    notices = Notices(Link(database, SystemClock()), SystemClock(), heard.append)
    notices.wait()
    database.close()
    assert heard == []
