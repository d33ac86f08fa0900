"""Whether a systemd timer runs `syncd sync` on this machine, from the unit folders alone.

systemctl is not asked: it takes longer than the rest of `syncd status`, and needs a bus that a
container or a cron job may not have.

Source: systemd.unit(5), "Unit File Load Path"; `systemctl enable` makes the links of `[Install]`.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from syncd.unit_name import UNIT_FOLDERS

RUNNING = "run/systemd/system"  # exists where systemd is the init system, see sd_booted(3)
TIMERS = "syncd*.timer"


class SystemdTimer(Struct, frozen=True):
    """A timer unit of syncd. `enabled`: it starts with the machine."""

    unit: str
    enabled: bool


def find_timer(root: Path = Path("/")) -> SystemdTimer | None:
    """Return syncd's timer, an enabled one first; None without one, or without systemd."""
    if not (root / RUNNING).is_dir():
        return None
    folders = [root / one for one in UNIT_FOLDERS]
    enabled = sorted(link.name for one in folders for link in one.glob(f"*.wants/{TIMERS}"))
    if enabled:
        return SystemdTimer(enabled[0], True)
    installed = sorted(unit.name for one in folders for unit in one.glob(TIMERS))
    return SystemdTimer(installed[0], False) if installed else None


__all__ = ["SystemdTimer", "find_timer"]
