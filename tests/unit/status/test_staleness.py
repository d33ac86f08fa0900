"""Warnings of a job: what makes its changes come late though no run fails."""

from __future__ import annotations

from datetime import UTC, datetime

from syncd.identities import FLEET
from syncd.models import Job, PathRule
from syncd.status.staleness import warnings_of
from syncd.store.facts import FLEET_AWAY, Staleness

SINCE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AWAY = Staleness(FLEET_AWAY, FLEET, "connection refused", SINCE)


def job(identity: str) -> Job:
    return Job("nginx", identity, "acme/infra", "main", (PathRule("x", "/srv/x", True),))


def test_a_job_of_a_fleet_says_since_when_the_database_is_away() -> None:
    (warning,) = warnings_of(job(FLEET), [AWAY], None)
    assert warning.reason == "fleet_away"
    expected = "the fleet's database is away since 2026-11-23T12:00:00Z: connection refused"
    assert warning.text == expected
    assert warnings_of(job("ops"), [AWAY], None) == ()
