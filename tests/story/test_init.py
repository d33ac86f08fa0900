"""`syncd init`: a configuration to start from that is good as it stands,
and the service from it; nothing of anybody's is overwritten.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv

SYNCD = Path(sys.executable).with_name("syncd")


def syncd(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command as a script calls it: without a terminal."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    return subprocess.run(
        [str(SYNCD), *arguments],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_without_a_terminal_the_commented_example_is_the_start_and_is_never_overwritten(
    tmp_path: Path,
) -> None:
    place = tmp_path / "deep/config.yaml"
    done = syncd("-c", str(place), "init", home=tmp_path)
    assert (
        done.returncode == 0
        and "check" in done.stderr
        and "plan --diff" in done.stderr
        and f"-c {place}" in done.stderr
    )
    assert (
        place.read_text()
        == (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text()
        and place.stat().st_mode & 0o777 == 0o644
    )
    place.write_text("mine")
    again = syncd("-c", str(place), "init", home=tmp_path)
    assert (
        again.returncode == 2 and "is there already" in again.stderr and place.read_text() == "mine"
    )


def test_a_link_that_dangles_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to(tmp_path / "elsewhere")
    assert (
        syncd("-c", str(tmp_path / "config.yaml"), "init", home=tmp_path).returncode == 2
        and not (tmp_path / "elsewhere").exists()
    )


def test_a_configuration_that_a_full_disk_cuts_off_is_none(tmp_path: Path) -> None:
    place = tmp_path / "config.yaml"
    command = f'ulimit -f 1; exec "{SYNCD}" -c "{place}" init'  # 1 KiB, as on a full disk
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        f"syncd: {place} can't be written: File too large\n"
        "  name another place with -c, or run it as who may write there\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_the_drop_in_is_printed_and_the_talk_is_not_part_of_it(hub: SyncEnv) -> None:
    done = hub.call("init", "--systemd")
    assert (
        done.code == 0
        and done.out.startswith("# syncd:")
        and f"ReadWritePaths=-{hub.dest}" in done.out
        and "--install" in done.err
        and "--install" not in done.out
    )


def test_installing_puts_units_user_and_drop_in_into_place_and_says_the_next_commands(
    hub: SyncEnv, tmp_path: Path
) -> None:
    root = tmp_path / "image"
    done = hub.call("init", "--systemd", "--install", "--root", str(root))
    assert (
        done.code == 0 and "systemctl enable syncd" in done.err and "systemd-sysusers" in done.err
    )
    assert {str(file.relative_to(root / "etc")) for file in root.rglob("*") if file.is_file()} == {
        "systemd/system/syncd.service",
        "systemd/system/syncd-root.service",
        "systemd/system/syncd-sync.service",
        "systemd/system/syncd-sync.timer",
        "systemd/system/syncd.service.d/50-syncd.conf",
        "sysusers.d/syncd.conf",
        "tmpfiles.d/syncd.conf",
    }
    assert hub.call("init", "--systemd", "--install", "--root", str(root)).code == 0


def test_where_a_package_brought_the_units_only_the_drop_in_is_written(
    hub: SyncEnv, tmp_path: Path
) -> None:
    root = tmp_path / "image"
    assert hub.call("init", "--systemd", "--install", "--root", str(root)).code == 0
    shutil.move(root / "etc/systemd/system", tmp_path / "copies")
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system/syncd.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = hub.call("init", "--systemd", "--install", "--root", str(root))
    assert done.code == 0 and "systemd-sysusers" not in done.err
    assert (
        "rm /etc/sysusers.d/syncd.conf /etc/tmpfiles.d/syncd.conf    # they hide the package's own"
        in done.err
    )
    written = [file for file in (root / "etc/systemd").rglob("*") if file.is_file()]
    assert [str(file.relative_to(root)) for file in written] == [
        "etc/systemd/system/syncd.service.d/50-syncd.conf"
    ]


def test_a_listener_on_systemds_socket_gets_its_socket_unit(hub: SyncEnv, tmp_path: Path) -> None:
    hub.extra["web"] = {"listen": "fd:page"}
    hub.write()
    root = tmp_path / "image"
    done = hub.call("init", "--systemd", "--install", "--root", str(root))
    assert done.code == 0 and "systemctl enable --now syncd-web.socket" in done.err
    text = (root / "etc/systemd/system/syncd-web.socket").read_text()
    assert "FileDescriptorName=page" in text and "Service=syncd.service" in text
    assert (
        "Sockets=syncd-web.socket"
        in (root / "etc/systemd/system/syncd.service.d/50-syncd.conf").read_text()
    )


def test_what_another_wrote_is_named_and_nothing_is_written(hub: SyncEnv, tmp_path: Path) -> None:
    root = tmp_path / "image"
    mine = root / "etc/systemd/system/syncd.service"
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\nExecStart=/bin/true\n")
    done = hub.call("init", "--systemd", "--install", "--root", str(root))
    assert (
        done.code == 2
        and str(mine) in done.err
        and len([file for file in root.rglob("*") if file.is_file()]) == 1
    )


def test_options_of_the_service_without_it_are_a_mistake(hub: SyncEnv) -> None:
    assert hub.call("init", "--timer").code == 2 and hub.call("init", "--install").code == 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_drop_in_is_understood_by_systemd(hub: SyncEnv, tmp_path: Path) -> None:
    hub.write_config(
        paths=[{"from": "nginx/", "to": f'{hub.folder}/a%b "c" d/'}], owner="root:root"
    )
    root = tmp_path / "image"
    assert hub.call("init", "--systemd", "--install", "--root", str(root)).code == 0
    folder = root / "etc/systemd/system"
    unit = "syncd-root.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    assert "syncd" not in done.stderr and done.returncode == 0, done.stderr


def test_doctor_says_when_the_drop_in_is_behind_the_configuration(
    hub: SyncEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "image"
    assert hub.call("init", "--systemd", "--install", "--root", str(root)).code == 0
    monkeypatch.setattr("syncd.cli.init.UNIT_DIR", root / "etc/systemd/system")
    assert "service" not in hub.call("doctor").out
    hub.write_config(
        paths=[
            {"from": "nginx/", "to": f"{hub.folder}/dest/"},
            {"from": "nginx/", "to": f"{hub.folder}/new/"},
        ]
    )
    done = hub.call("doctor")
    assert "! service" in done.out and "syncd init --systemd --install" in done.out, done.out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_root_profile_stays_within_its_bound_with_all_that_nginx_needs(
    hub: SyncEnv, tmp_path: Path
) -> None:
    hub.write_config(
        paths=[{"from": "nginx/", "to": "/etc/nginx/"}],
        owner="www-data",
        validate="nginx -t -c {staged}/etc/nginx/nginx.conf",
        on_change="systemctl reload nginx",
    )
    root = tmp_path / "image"
    assert hub.call("init", "--systemd", "--install", "--root", str(root)).code == 0
    unit = root / "etc/systemd/system/syncd-root.service"
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{unit.parent}:"}
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert (
        done.returncode == 0
        and "CAP_CHOWN" in (unit.parent / "syncd-root.service.d/50-syncd.conf").read_text()
    ), done.stdout
