"""Time zones by name, also on a machine without time zone data, where UTC alone is known.

Source: Python's `zoneinfo`: data comes from the system, else from the package tzdata of PyPI.
Debian 13 moved names that are only links, such as US/Pacific, to the package tzdata-legacy.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

ALWAYS_KNOWN = "UTC"
EVERYWHERE = "Europe/Berlin"  # in every copy of the data


def time_zone(name: str) -> tzinfo:
    """Return the time zone. Raises ValueError, OSError or KeyError for one that is not known."""
    return UTC if name == ALWAYS_KNOWN else ZoneInfo(name)


def has_time_zones() -> bool:
    """Return whether this machine has time zone data."""
    try:
        time_zone(EVERYWHERE)
    except (ValueError, OSError, KeyError):
        return False
    return True


def why_unknown(name: str) -> str:
    """Return why a name is not a time zone here, and what to do."""
    shown = f"'{name[:40]}'"
    if not has_time_zones():
        return (
            f"{shown} is not known, because this machine has no time zone data; install the package"
            " tzdata, or write UTC"
        )
    return (
        f"{shown} is not a time zone; write it like UTC or Europe/Berlin (names like US/Pacific are"
        " in the package tzdata-legacy)"
        if name.startswith(("US/", "Canada/", "Brazil/", "Chile/", "Mexico/"))
        else f"{shown} is not a time zone; write it like UTC or Europe/Berlin"
    )


__all__ = ["has_time_zones", "time_zone", "why_unknown"]
