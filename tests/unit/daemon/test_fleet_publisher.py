"""When a controller publishes: a new commit always, another listing of the same one only once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from syncd.daemon.fleet_publisher import Poll, settings_of
from syncd.fleet.leases import Lease
from syncd.models import Job, PathRule
from syncd.ports import Head

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ONE, TWO = "1" * 40, "2" * 40
JOB = Job("j", "me", "o/r", "main", (PathRule("x", "/srv/x", True),))
MINE = settings_of(JOB)


@pytest.mark.parametrize(
    ("published", "settings", "lists_anew", "is_published"),
    [
        (ONE, MINE, False, True),
        (ONE, MINE, True, True),
        (ONE, "another controller's", False, True),
        (ONE, "another controller's", True, False),
        (ONE, None, False, False),  # the job follows another repository or ref
        (TWO, MINE, False, False),
        (None, None, False, False),
    ],
)
def test_a_commit_is_published_when_it_is_new_or_has_to_be_listed_anew(
    published: str | None, settings: str | None, lists_anew: bool, is_published: bool
) -> None:
    lease = Lease(1, "j", 1, NOW, published=published, settings=settings)
    unused: Any = None
    poll = Poll(JOB, lease, unused, unused, "c1")
    assert poll.is_published(Head(ONE), lists_anew) is is_published
