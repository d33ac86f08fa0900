"""The leases that a controller holds, by its own clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.daemon.fleet_leases import HeldLeases
from syncd.errors import StoppedError
from syncd.fleet.leases import Lease
from tests.support.clock import FakeClock


def lease(epoch: int = 1) -> Lease:
    return Lease(1, "nginx", epoch, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_lease_counts_from_when_the_database_was_asked() -> None:
    clock = FakeClock()
    held = HeldLeases(clock, 15.0)
    held.add(lease(), clock.monotonic())
    clock.advance(14.9)
    held.check(lease())
    asked_at = clock.monotonic()
    clock.advance(0.2)
    with pytest.raises(StoppedError):
        held.check(lease())
    held.renewed(lease(), asked_at)
    clock.advance(14.7)
    held.check(lease())
    clock.advance(0.2)
    with pytest.raises(StoppedError):
        held.check(lease())


def test_the_end_of_an_earlier_poll_does_not_end_the_lease_of_a_later_claim() -> None:
    clock = FakeClock()
    held = HeldLeases(clock, 15.0)
    held.add(lease(1), clock.monotonic())
    held.add(lease(2), clock.monotonic())
    held.renewed(lease(1), clock.monotonic() + 60.0)
    held.remove(lease(1))
    assert held.all() == [lease(2)]
    held.check(lease(2))
    with pytest.raises(StoppedError):
        held.check(lease(1))
    held.remove(lease(2))
    assert not held.has("nginx")


def test_a_poll_ends_where_the_database_says_that_another_controller_has_the_job() -> None:
    clock = FakeClock()
    held = HeldLeases(clock, 15.0)
    held.add(lease(), clock.monotonic())
    held.lost(lease(2))
    held.check(lease())
    held.lost(lease())
    with pytest.raises(StoppedError):
        held.check(lease())
