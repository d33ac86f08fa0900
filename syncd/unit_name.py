"""Names the systemd service that runs, or would run, syncd's daemon on this machine.

For the commands that messages tell an operator to type. systemctl is not asked: it needs a bus that
a container or a cron job may not have.

Source: cgroups(7), "/proc/pid/cgroup"; systemd.unit(5), "Unit File Load Path": `systemctl enable`
makes the links of `[Install]`, and drop-ins are in folders beside the unit.
"""

from __future__ import annotations

import re
from pathlib import Path

DEFAULT, ONE_SHOT = "syncd", "syncd-sync"
UNIT_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
# of the system's manager, also where the unit has groups below it
OWN_GROUP = re.compile(
    r"(?<!\S)[^:\n]*:[^:\n]*:(?!.*/user@)/(?:.*/)?(syncd[^/\n]*)\.service(?:/|$)"
)


def service_in_use(pid: int | str | None = None, root: Path = Path("/")) -> str:
    """Return the name of the daemon's service, without `.service`.

    That of the process `pid` (`self` for this one), else the service that is enabled, has a drop-in
    as `syncd init --systemd` writes it, or is installed; `syncd` where none is.
    """
    found = None if pid is None else _service_of(root / "proc" / str(pid) / "cgroup")
    return found or _service_of_folders([root / one for one in UNIT_FOLDERS]) or DEFAULT


def _service_of(file: Path) -> str | None:
    """Return syncd's service that the groups in a /proc/PID/cgroup belong to."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found = (OWN_GROUP.match(line) for line in lines)
    return next((one[1] for one in found if one is not None and one[1] != ONE_SHOT), None)


def _service_of_folders(folders: list[Path]) -> str | None:
    """Return the first service that is enabled, configured, or installed, in this order."""
    for pattern in ("*.wants/syncd*.service", "syncd*.service.d", "syncd*.service"):
        names = {
            one.name.partition(".")[0] for folder in folders for one in folder.glob(pattern)
        } - {ONE_SHOT}
        if names:
            return DEFAULT if DEFAULT in names else min(names)
    return None


__all__ = ["UNIT_FOLDERS", "service_in_use"]
