"""Finding syncd's timer in the unit folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.status.systemd_timer import SystemdTimer, find_timer

UNIT = "usr/lib/systemd/system/syncd-sync.timer"
OWN_UNIT = "etc/systemd/system/syncd-night.timer"
LINK = "etc/systemd/system/timers.target.wants/syncd-sync.timer"
RUNNING = "run/systemd/system/.keep"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ((), None),
        ((UNIT, LINK), None),  # no systemd: a container
        ((RUNNING,), None),
        ((RUNNING, UNIT), SystemdTimer("syncd-sync.timer", False)),
        ((RUNNING, UNIT, LINK), SystemdTimer("syncd-sync.timer", True)),
        ((RUNNING, OWN_UNIT), SystemdTimer("syncd-night.timer", False)),
        ((RUNNING, OWN_UNIT, UNIT, LINK), SystemdTimer("syncd-sync.timer", True)),
        ((RUNNING, "etc/systemd/system/other.timer"), None),
        ((RUNNING, "etc/systemd/system/syncd.service"), None),
    ],
)
def test_the_timer_is_found(tmp_path: Path, files: tuple[str, ...], found: object) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_timer(tmp_path) == found
