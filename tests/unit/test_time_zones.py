"""Time zones by name, with and without time zone data on the machine."""

from __future__ import annotations

import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from syncd.time_zones import has_time_zones, time_zone, why_unknown


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without time zone data, also of Python's package."""
    before = zoneinfo.TZPATH
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=before)
    zoneinfo.ZoneInfo.clear_cache()


def test_utc_is_known_without_data(no_data: None) -> None:
    assert time_zone("UTC") is UTC
    assert not has_time_zones()


def test_a_zone_has_its_offset_where_there_is_data() -> None:
    winter = datetime(2026, 1, 1, tzinfo=time_zone("Europe/Berlin"))
    assert winter.utcoffset() == timedelta(hours=1)
    assert has_time_zones()


def test_a_missing_zone_names_the_package_where_there_is_no_data(no_data: None) -> None:
    with pytest.raises(KeyError):
        time_zone("Europe/Berlin")
    assert why_unknown("Europe/Berlin") == (
        "'Europe/Berlin' is not known, because this machine has no time zone data; install the"
        " package tzdata, or write UTC"
    )


WHY = {
    "Mars/Olympus": "'Mars/Olympus' is not a time zone; write it like UTC or Europe/Berlin",
    "US/Atlantis": "'US/Atlantis' is not a time zone; write it like UTC or Europe/Berlin"
    " (names like US/Pacific are in the package tzdata-legacy)",
}


@pytest.mark.parametrize("name", WHY)
def test_a_name_that_is_no_zone_is_refused_with_an_example(name: str) -> None:
    assert why_unknown(name) == WHY[name]
