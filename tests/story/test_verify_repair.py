"""Bytes that the disk changed behind their times: `verify` finds them,
`verify --repair` has them restored.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from syncd.cli.main import run
from tests.fault.mounts import privately, shell
from tests.support.simulated_daemon import simulated_daemon
from tests.support.stamps import TICK_NS, Stamps, stamped
from tests.support.sync_env import SyncEnv, signatures, sync_env


@pytest.fixture
def stamps(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> Stamps:
    """The set was synced, and what lstat says of it is trusted."""
    made = stamped(monkeypatch, TICK_NS)
    hub.sync()
    made.advance(60)
    hub.sync()
    made.advance(60)
    return made


def test_rotten_bytes_are_restored_after_a_repair_and_not_without(
    hub: SyncEnv, stamps: Stamps
) -> None:
    stamps.rot(hub.dest / "nginx.conf", b"0ne\n")
    assert hub.sync().job["status"] == "unchanged"
    found = hub.call("verify")
    assert found.code == 3
    assert "1 differs; to put it back: syncd verify --repair nginx, then" in found.out
    repaired = hub.call("verify", "--repair", "nginx")
    assert repaired.code == 3
    assert "1 differs, 1 marked; to put it back: syncd sync nginx" in repaired.out
    assert hub.tree()["nginx.conf"] == b"0ne\n", "no mirrored file is touched"
    done = hub.sync()
    changes = [(change["action"], Path(change["path"]).name) for change in done.job["changes"]]
    assert changes == [("restore", "nginx.conf")]
    assert hub.tree()["nginx.conf"] == b"one\n"
    assert hub.call("verify").code == 0 and hub.sync().job["status"] == "unchanged"


def test_the_json_of_verify_names_what_a_run_would_not_see(hub: SyncEnv, stamps: Stamps) -> None:
    stamps.rot(hub.dest / "nginx.conf", b"0ne\n")
    (hub.dest / "sites/a.conf").write_text("edited\n")
    (job,) = hub.call("verify", "--json").json["jobs"]
    assert {Path(one["path"]).name: one["unseen"] for one in job["findings"]} == {
        "nginx.conf": True,
        "a.conf": False,
    }
    assert job["marked"] == 0
    assert job["hint"] == "to put them back: syncd verify --repair nginx, then syncd sync nginx"
    (job,) = hub.call("verify", "--repair", "--json").json["jobs"]
    assert (job["marked"], job["hint"]) == (2, "to put them back: syncd sync nginx")


@pytest.mark.parametrize(
    ("drift", "marked", "actions", "content", "status"),
    [
        ("restore", 1, ["restore"], b"one\n", 0),
        ("report", 1, ["keep"], b"0ne\n", 3),
        ("keep", 0, [], b"0ne\n", 0),
    ],
)
def test_what_a_repair_leads_to_is_what_drift_says(
    hub: SyncEnv,
    stamps: Stamps,
    drift: str,
    marked: int,
    actions: list[str],
    content: bytes,
    status: int,
) -> None:
    hub.write_config(drift=drift)
    hub.sync()
    stamps.rot(hub.dest / "nginx.conf", b"0ne\n")
    assert hub.call("verify", "--repair", "--json").json["jobs"][0]["marked"] == marked
    assert [change["action"] for change in hub.sync().job["changes"]] == actions
    assert hub.tree()["nginx.conf"] == content and hub.call("status").code == status


def test_rotten_bytes_behind_a_published_link_are_restored(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": to}])
    stamps = stamped(monkeypatch, TICK_NS)
    for _ in range(2):
        hub.sync()
        stamps.advance(60)
    stamps.rot(os.path.realpath(hub.dest / "app/current/nginx.conf"), b"0ne\n")
    assert hub.sync().job["status"] == "unchanged"
    hub.call("verify", "--repair")
    assert [change["action"] for change in hub.sync().job["changes"]] == ["restore"]
    assert (hub.dest / "app/current/nginx.conf").read_bytes() == b"one\n"


def test_a_daemon_restores_what_another_process_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = stamped(monkeypatch, TICK_NS)
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/infra", {"files/data": "one\n"})
        made.add("nginx", "acme/infra", every="1h")
        made.begin(lambda: 0.5)
        for _ in range(4):
            made.run(3600.0)
            stamps.advance(60)
        place = tmp_path / "dest/nginx/data"
        stamps.rot(place, b"0ne\n")
        made.run(7200.0)
        assert place.read_bytes() == b"0ne\n", "the daemon trusts what lstat says"
        assert run(["-c", str(tmp_path / "config.yaml"), "verify", "--repair"]) == 3
        made.run(7200.0)
        assert place.read_bytes() == b"one\n"


def test_verify_alone_writes_nothing(hub: SyncEnv, stamps: Stamps) -> None:
    stamps.rot(hub.dest / "nginx.conf", b"0ne\n")
    blob = next((hub.state / "blobs").glob("??/*"))
    blob.write_bytes(b"damaged")
    os.utime(blob, (0, 0))
    before = signatures(hub.state / "blobs"), signatures(hub.dest)
    for _ in range(2):
        found = hub.call("verify", "--json").json
        assert found["blobs"]["damaged"] == [blob.parent.name + blob.name]
        assert found["blobs"]["dropped"] == 0
    assert (signatures(hub.state / "blobs"), signatures(hub.dest)) == before


def test_verify_makes_no_state(hub: SyncEnv) -> None:
    assert hub.call("verify").code == 0 and hub.call("verify", "--repair").code == 0
    assert not hub.state.exists()


def test_a_repair_drops_damaged_blobs_which_are_fetched_anew(hub: SyncEnv, stamps: Stamps) -> None:
    for blob in (hub.state / "blobs").glob("??/*"):
        blob.write_bytes(b"damaged")
    said = hub.call("verify").out
    assert "2 of them damaged; to drop them: syncd verify --repair" in said
    assert hub.call("verify", "--repair", "--json").json["blobs"]["dropped"] == 2
    stamps.rot(hub.dest / "nginx.conf", b"0ne\n")
    hub.call("verify", "--repair")
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"


@pytest.mark.root
def test_only_the_owner_of_the_state_may_repair(hub: SyncEnv) -> None:
    hub.sync()
    os.chown(hub.state, 65534, 65534)
    done = hub.call("verify", "--repair")
    assert done.code == 1 and "sudo -u nobody syncd" in done.err


@pytest.mark.root
def test_bytes_changed_on_the_block_device_are_found_and_restored(tmp_path: Path) -> None:
    """ext4 on a loop device, whose block is changed while the file system is mounted."""
    mark, rotten = b"synced content " * 300, b"rotten content " * 300

    def work() -> list[object]:
        image, place = tmp_path / "image", tmp_path / "dest"
        place.mkdir()
        shell("truncate", "-s", "16M", image)
        shell("mkfs.ext4", "-q", image)
        device = shell("losetup", "-f", "--show", image)
        try:
            shell("mount", device, place)
            try:
                return _rot(tmp_path, Path(device), mark, rotten)
            finally:
                shell("umount", place)
        finally:
            shell("losetup", "-d", device)

    assert privately(work) == ["unchanged", 3, 3, ["restore"], 0]


def _rot(folder: Path, device: Path, mark: bytes, rotten: bytes) -> list[object]:
    with sync_env(folder, {"nginx/data": mark.decode()}) as hub:
        to = f"{hub.dest}/files/"
        hub.write_config(paths=[{"from": "nginx/", "to": to}])
        for _ in range(2):
            assert hub.sync().code == 0
        subprocess.run(["sync"], check=True)
        with open(device, "r+b", buffering=0) as disk:
            where = disk.read(16 << 20).find(mark)
            disk.seek(where)
            disk.write(rotten)
            os.fsync(disk.fileno())
        Path("/proc/sys/vm/drop_caches").write_text("3")
        assert (hub.dest / "files/data").read_bytes() == rotten
        unchanged = hub.sync().job["status"]
        codes = hub.call("verify").code, hub.call("verify", "--repair").code
        changes = [change["action"] for change in hub.sync().job["changes"]]
        assert (hub.dest / "files/data").read_bytes() == mark
        return [unchanged, *codes, changes, hub.call("verify").code]
