"""Machines that lack what is usual: time zone data, /proc, a PATH, or a network at the start."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import pytest

from tests.support.daemon import daemon
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


# --- a minimal PATH, and a network that comes late ---------------------------------------------


@pytest.mark.parametrize("path", ["", "/nonexistent"])
def test_with_a_minimal_path_a_sync_and_its_hooks_work(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path)
    hub.write_config(on_change="touch " + str(hub.folder / "reloaded"))
    done = hub.sync()
    assert (done.code, done.job["status"]) == (0, "changed"), done.err
    assert (hub.folder / "reloaded").exists()
    assert hub.call("status").code == 0


def test_before_the_network_is_there_status_says_why_and_the_daemon_is_up(hub: SyncEnv) -> None:
    hub.identities["ops"]["api"] = "https://github.invalid"
    hub.write()
    with daemon(hub) as running:
        running.says("github.invalid")
        shown = hub.call("status", "--json").json
        assert shown["daemon"]["alive"] is True
        assert shown["jobs"][0]["error"]["kind"] == "unavailable"
        assert running.ends() == 0
