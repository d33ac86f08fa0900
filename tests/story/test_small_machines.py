"""Machines that lack what is usual: time zone data, /proc, a PATH, or a network at the start."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import pytest

from tests.support.sync_env import SyncEnv

# --- no time zone data ------------------------------------------------


@pytest.fixture
def no_time_zones() -> Iterator[None]:
    """A machine without the package tzdata."""
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=before)
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.parametrize("schedule", [{"every": "5m"}, {"every": None, "cron": "15 3 * * *"}])
def test_without_time_zone_data_utc_and_every_work(
    hub: SyncEnv, no_time_zones: None, schedule: dict[str, str]
) -> None:
    hub.write_config(**schedule)
    assert (hub.sync().code, hub.call("status").code) == (0, 0)
    assert hub.call("status", "--json").json["jobs"][0]["next_run"].endswith("Z")


def test_without_time_zone_data_another_zone_names_the_package(
    hub: SyncEnv, no_time_zones: None
) -> None:
    hub.extra["timezone"] = "Europe/Berlin"
    hub.write()
    refused = hub.call("sync")
    assert refused.code == 2
    assert "timezone: 'Europe/Berlin' is not known" in refused.err
    assert "install the package tzdata, or write UTC" in refused.err
    assert "none: install tzdata" in hub.call("version", "--verbose").out
