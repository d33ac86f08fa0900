"""Which service the hints name: from the process, from the unit folders, or the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.unit_name import service_in_use

ETC, LIB = "etc/systemd/system", "usr/lib/systemd/system"
BOTH = (f"{LIB}/syncd.service", f"{LIB}/syncd-root.service", f"{LIB}/syncd-sync.service")
ROOT_ENABLED = f"{ETC}/multi-user.target.wants/syncd-root.service"
USER_ENABLED = f"{ETC}/multi-user.target.wants/syncd.service"


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/system.slice/syncd.service", (), "syncd"),
        ("0::/system.slice/syncd-root.service", (), "syncd-root"),
        ("0::/system.slice/syncd-root.service/hooks", (USER_ENABLED,), "syncd-root"),
        ("0::/system.slice/system-syncd.slice/syncd@web.service", (), "syncd@web"),
        ("12:pids:/x\n1:name=systemd:/system.slice/syncd-root.service", (), "syncd-root"),
        ("0::/system.slice/syncd-sync.service", BOTH, "syncd"),
        ("0::/system.slice/cron.service", (*BOTH, ROOT_ENABLED), "syncd-root"),
        ("0::/system.slice/not-syncd.service", (), "syncd"),
        ("0::/user.slice/user-1000.slice/session-3.scope", (), "syncd"),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/syncd-x.service", (), "syncd"),
        ("0::/", (), "syncd"),
        ("", (), "syncd"),
        (None, (), "syncd"),
        (None, BOTH, "syncd"),
        (None, (*BOTH, USER_ENABLED), "syncd"),
        (None, (*BOTH, ROOT_ENABLED), "syncd-root"),
        (None, (*BOTH, ROOT_ENABLED, USER_ENABLED), "syncd"),
        (None, (*BOTH, f"{ETC}/syncd-root.service.d/50-syncd.conf"), "syncd-root"),
        (None, (*BOTH, f"{ETC}/syncd-sync.service.d/50-syncd.conf"), "syncd"),
        (None, (*BOTH, f"{ETC}/timers.target.wants/syncd-sync.timer"), "syncd"),
        (None, (f"{LIB}/syncd-root.service",), "syncd-root"),
    ],
)
def test_the_service_in_use(
    tmp_path: Path, group: str | None, files: tuple[str, ...], expected: str
) -> None:
    wanted = dict.fromkeys(files, "")
    if group is not None:
        wanted["proc/77/cgroup"] = f"{group}\n"
    for name, text in wanted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert service_in_use(77, tmp_path) == expected


def test_without_a_process_the_folders_decide(tmp_path: Path) -> None:
    (tmp_path / ROOT_ENABLED).parent.mkdir(parents=True)
    (tmp_path / ROOT_ENABLED).touch()
    assert service_in_use(None, tmp_path) == "syncd-root"
