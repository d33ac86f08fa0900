"""The units as they are shipped: closed as far as systemd's own judge can see, silent under its
checker, and with a reason beside whatever is open.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIPPED = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = ("syncd.service", "syncd-root.service", "syncd-sync.service")
EXPOSURE_AT_MOST = {
    "syncd.service": 15,
    "syncd-root.service": 25,
    "syncd-sync.service": 15,
}  # tenths
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (SHIPPED / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
    return found


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_systemds_own_judge_finds_little_open(name: str) -> None:
    done = analyze(
        "security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST[name]}", str(SHIPPED / name)
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found is not None and float(found.group(1)) * 10 <= EXPOSURE_AT_MOST[name]


@needs_analyze
def test_systemds_checker_is_silent(tmp_path: Path) -> None:
    syncd = tmp_path / "syncd"
    syncd.symlink_to(
        Path(sys.executable).with_name("syncd")
    )  # which may stand in a path with a space
    files = []
    for name in (*SERVICES, "syncd-sync.timer"):
        files.append(tmp_path / name)
        files[-1].write_text((SHIPPED / name).read_text().replace("/usr/bin/syncd", str(syncd)))
    done = analyze("verify", "--man=no", *map(str, files))
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "syncd" in line]
    assert done.returncode == 0 and not ours, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_open_has_its_reason_above_it(name: str) -> None:
    lines = (SHIPPED / name).read_text().splitlines()
    opened = [
        index
        for index, line in enumerate(lines)
        if re.match(
            r"(PrivateUsers|PrivateNetwork)=no|ProcSubset=all|RestrictAddressFamilies=|User=|SystemCallFilter=@chown",
            line,
        )
    ]
    assert len(opened) >= 5
    for index in opened:
        assert lines[index - 1].startswith("# "), lines[index]


def test_the_three_services_are_closed_alike_but_for_what_root_needs() -> None:
    own = {
        "Description",
        "Conflicts",
        "Type",
        "ExecStart",
        "ExecReload",
        "WatchdogSec",
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
        "StartLimitIntervalSec",
        "NotifyAccess",
        "SuccessExitStatus",
        "TimeoutStartSec",
        "WantedBy",
        "User",
        "Group",
        "SystemCallFilter",
    }
    first, *others = (
        {key: value for key, value in settings(name).items() if key not in own} for name in SERVICES
    )
    assert all(other == first for other in others) and len(first) > 25


def test_no_unit_starts_with_a_privilege() -> None:
    for name in SERVICES:
        assert (
            settings(name)["CapabilityBoundingSet"] == [""]
            and settings(name)["NoNewPrivileges"] == ["yes"]
            and "ReadWritePaths" not in settings(name)
        )


def test_every_shipped_file_says_first_that_the_next_version_may_replace_it() -> None:
    for file in SHIPPED.iterdir():
        assert file.read_text().startswith("# syncd:"), file.name
