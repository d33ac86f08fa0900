"""Destinations on disks that name one file in several ways: exFAT ignores case,
a bind mount shows one folder twice.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.mounts import EXFAT_TOOLS, exfat, lacking, no_root, shell
from tests.support.sync_env import SyncEnv, sync_env, tree_of

pytestmark = pytest.mark.root


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[SyncEnv]:
    missing = lacking(*EXFAT_TOOLS)
    if missing:
        pytest.skip(f"needs {missing}")
    files = {"nginx/Upper.txt": "one\n", "nginx/Dir/f": "f\n", "nginx/same": "same\n"}
    with sync_env(tmp_path, files) as hub, exfat(tmp_path / "image", tmp_path / "mnt") as place:
        hub.write_config(paths=[{"from": "nginx/", "to": f"{place}/x/"}])
        assert hub.sync().code == 0
        yield hub


def renamed(hub: SyncEnv, old: str, new: str, content: str) -> None:
    hub.repo.commit({f"nginx/{old}": None, f"nginx/{new}": content})


@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
@pytest.mark.parametrize("content", ["one\n", "two\n"], ids=["same content", "changed"])
def test_a_file_renamed_only_in_case_stays_on_a_disk_that_ignores_case(
    mounted: SyncEnv, drift: str, content: str
) -> None:
    mounted.write_config(drift=drift)
    renamed(mounted, "Upper.txt", "upper.txt", content)
    done = mounted.sync()
    actions = {change["action"] for change in done.job["changes"]}
    assert (done.code, actions) == (0, set() if content == "one\n" else {"write"})
    assert (mounted.folder / "mnt/x/upper.txt").read_text() == content
    assert mounted.sync().job["changes"] == []
    assert mounted.call("status", "--json").json["jobs"][0]["files"] == 3
    renamed(mounted, "upper.txt", "other.txt", content)
    assert mounted.sync().code == 0
    names = sorted(os.listdir(mounted.folder / "mnt/x"))
    assert [name.lower() for name in names] == ["dir", "other.txt", "same"]


@pytest.mark.parametrize("content", ["f\n", "changed\n"])
def test_a_folder_renamed_only_in_case_keeps_its_files(mounted: SyncEnv, content: str) -> None:
    renamed(mounted, "Dir/f", "dir/f", content)
    done = mounted.sync()
    assert done.code == 0 and "remove" not in [one["action"] for one in done.job["changes"]]
    assert (mounted.folder / "mnt/x/dir/f").read_text() == content
    assert mounted.sync().job["changes"] == []
    renamed(mounted, "dir/f", "g", content)
    assert mounted.sync().code == 0
    assert not (mounted.folder / "mnt/x/dir").exists(), "the folder is still known as syncd's"


def test_a_destination_respelled_only_in_case_keeps_its_files(mounted: SyncEnv) -> None:
    place = f"{mounted.folder}/mnt"
    mounted.write_config(paths=[{"from": "nginx/", "to": f"{place}/X/"}])
    done = mounted.sync()
    assert (done.code, done.job["changes"]) == (0, [])
    assert (mounted.folder / "mnt/x/same").read_text() == "same\n"
    assert mounted.call("status", "--json").json["jobs"][0]["files"] == 3
    assert mounted.sync().job["changes"] == []


def test_two_jobs_cannot_own_one_file_under_two_cases(mounted: SyncEnv) -> None:
    place = f"{mounted.folder}/mnt"
    mounted.write_config(paths=[{"from": "nginx/same", "to": f"{place}/x/same"}])
    mounted.jobs["other"] = {
        "repo": "acme/infra",
        "every": "5m",
        "paths": [{"from": "nginx/Upper.txt", "to": f"{place}/x/SAME"}],
    }
    mounted.write()
    done = mounted.sync()
    assert done.code != 0 and (mounted.folder / "mnt/x/same").read_text() == "same\n"


def test_a_bind_mount_shows_the_same_files_under_another_path(tmp_path: Path) -> None:
    if no_root():
        pytest.skip("needs root")
    with sync_env(tmp_path) as hub:
        for name in ("one", "two"):
            (tmp_path / "D" / name).mkdir(parents=True)
        subprocess.run(["mount", "--bind", tmp_path / "D/one", tmp_path / "D/two"], check=True)
        try:
            hub.write_config(paths=[{"from": "nginx/", "to": f"{tmp_path}/D/one/x/"}])
            assert hub.sync().code == 0
            before = tree_of(tmp_path / "D/one")
            hub.write_config(paths=[{"from": "nginx/", "to": f"{tmp_path}/D/two/x/"}])
            planned, done = hub.plan().job, hub.sync()
            assert planned["changes"] == [] and (done.code, done.job["changes"]) == (0, [])
            assert tree_of(tmp_path / "D/one") == before == tree_of(tmp_path / "D/two")
            hub.repo.commit({"nginx/sites/a.conf": None})
            assert [one["action"] for one in hub.sync().job["changes"]] == ["remove"]
            assert sorted(tree_of(tmp_path / "D/two/x")) == ["nginx.conf"]
        finally:
            subprocess.run(["umount", tmp_path / "D/two"], check=True)


# --- modes and owners that a file system accepts and ignores --------------------------------------


@contextmanager
def ignoring(folder: Path, place: Path, *options: str) -> Iterator[Path]:
    """`folder` seen at `place` through bindfs."""
    folder.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    shell("bindfs", *options, folder, place)
    try:
        yield place
    finally:
        shell("umount", place)


IGNORES_ALL = ("--chmod-ignore", "--chown-ignore", "--chgrp-ignore")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as one:
        yield one


def reloads(hub: SyncEnv) -> int:
    file = hub.folder / "reloads"
    return len(file.read_text().splitlines()) if file.exists() else 0


def reload_command(hub: SyncEnv) -> dict[str, str]:
    return {"shell": f"echo x >> {hub.folder}/reloads"}


@pytest.mark.parametrize("publish", ["files", "symlink"])
@pytest.mark.parametrize(
    ("options", "job", "asked", "remedy"),
    [
        (("--perms=u=rwD:go=rD", *IGNORES_ALL), {"mode": "0640"}, "0640", "leave out mode:"),
        (("--perms=fa=rwx:du=rwx:dgo=rx", *IGNORES_ALL), {}, "0644", 'set mode: "0777"'),
        (("--perms=u=rwD:go=rD:da=rwx", *IGNORES_ALL), {}, "0755", 'set dir_mode: "0777"'),
        (
            ("--perms=u=rwD:go=rD", *IGNORES_ALL),
            {"owner": "nobody:nogroup"},
            "65534:65534",
            "leave out owner:",
        ),
    ],
)
def test_a_mode_or_owner_that_the_disk_ignores_fails_the_job_by_name_and_reloads_nothing(
    hub: SyncEnv,
    options: tuple[str, ...],
    job: dict[str, str],
    asked: str,
    remedy: str,
    publish: str,
) -> None:
    with ignoring(hub.folder / "behind", hub.folder / "mnt", *options) as place:
        to = f"{place}/app/current/"
        hub.write_config(
            publish=publish,
            paths=[{"from": "nginx/", "to": to}],
            on_change=reload_command(hub),
            **job,
        )
        for _ in range(3):
            done = hub.sync()
            error = done.job["error"]
            assert (done.code, error["kind"], done.job["changes"]) == (1, "mirror", [])
            assert "ignores ch" in error["message"] and asked in error["message"]
            assert f"{place}/app" in error["message"] and remedy in error["hint"]
        assert reloads(hub) == 0
        assert hub.call("status", "--json").json["jobs"][0]["state"] == "failing"


@pytest.mark.parametrize("key", ["mode", "dir_mode", "owner"])
def test_a_change_of_mode_or_owner_that_the_disk_ignores_is_no_change_at_any_run(
    hub: SyncEnv, key: str
) -> None:
    """A disk that took the modes once and does not any more: each run says so,
    none claims a change.
    """
    paths = [{"from": "nginx/", "to": f"{hub.folder}/mnt/x/"}]
    hub.write_config(paths=paths, on_change=reload_command(hub))
    with ignoring(hub.folder / "behind", hub.folder / "mnt"):
        assert hub.sync().code == 0 and reloads(hub) == 1
    with ignoring(hub.folder / "behind", hub.folder / "mnt", *IGNORES_ALL):
        hub.write_config(**{key: {"mode": "0600", "dir_mode": "0700", "owner": "nobody"}[key]})
        for _ in range(3):
            done = hub.sync()
            assert (done.code, done.job["changes"]) == (1, [])
            assert "ignores ch" in done.job["error"]["message"]
        assert reloads(hub) == 1
        hub.write_config(**{key: None})
        assert hub.sync().code == 0 and reloads(hub) == 1
    with ignoring(hub.folder / "behind", hub.folder / "mnt"):
        hub.write_config(**{key: {"mode": "0600", "dir_mode": "0700", "owner": "nobody"}[key]})
        assert hub.sync().code == 0 and reloads(hub) == 2, "it heals where the disk takes it"


def test_exfat_that_shows_other_modes_fails_the_job_once_and_its_remedies_work(
    tmp_path: Path,
) -> None:
    with sync_env(tmp_path) as hub, exfat(tmp_path / "image", tmp_path / "mnt") as place:
        paths = [{"from": "nginx/", "to": f"{place}/x/"}]
        hub.write_config(paths=paths, mode="0640", on_change=reload_command(hub))
        for _ in range(2):
            done = hub.sync()
            assert done.code == 1 and done.job["changes"] == [] and reloads(hub) == 0
            error = done.job["error"]
            assert "set to 0640, and it is still 0644" in error["message"]
            assert "leave out mode:" in error["hint"] and "fmask=0137" in error["hint"]
        hub.write_config(mode=None)
        assert hub.sync().code == 0 and reloads(hub) == 1
        assert hub.sync().job["status"] == "unchanged" and reloads(hub) == 1


STATE_MODES = {
    "0755": ("can't be made private", "still shows 0755", "/var/lib/syncd"),
    "0777": ("can't be used as root", "chmod go-w"),
}


@pytest.mark.parametrize("mode", STATE_MODES)
@pytest.mark.parametrize("command", ["sync", "migrate"])
def test_a_state_folder_that_can_not_be_made_private_is_refused_in_a_sentence(
    hub: SyncEnv, command: str, mode: str
) -> None:
    """Commands that only look make no state, and change none."""
    options = (f"--perms={mode}", *IGNORES_ALL)
    with ignoring(hub.folder / "behind", hub.folder / "mnt", *options) as place:
        hub.extra["state"] = f"{place}/state"
        hub.write()
        (place / "state").mkdir()
        (place / "state/syncd.db").touch()
        done = hub.call(command)
        assert done.code == 1 and "Traceback" not in done.err
        for said in STATE_MODES[mode]:
            assert said in done.err
        assert not (hub.dest / "nginx.conf").exists()


# --- mounts that come and go ----------------------------------------------------------------------


@contextmanager
def mounts_of_its_own() -> Iterator[list[Path]]:
    """What is mounted at the listed places is unmounted at the end."""
    places: list[Path] = []
    try:
        yield places
    finally:
        for place in places:
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def tmpfs(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    shell("mount", "-t", "tmpfs", "tmpfs", place)


@pytest.mark.parametrize("drift", ["restore", "report"])
def test_a_tmpfs_that_is_empty_after_a_reboot_is_filled_again(hub: SyncEnv, drift: str) -> None:
    with mounts_of_its_own() as places:
        place = hub.folder / "mnt"
        places.append(place)
        tmpfs(place)
        hub.write_config(drift=drift, paths=[{"from": "nginx/", "to": f"{place}/run/x/"}])
        assert hub.sync().code == 0
        shell("umount", place)
        tmpfs(place)
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        done = hub.sync()
        assert done.code == 0 and (place / "run/x/nginx.conf").read_text() == "two\n"


def test_a_new_disk_at_the_same_mount_point_is_filled(hub: SyncEnv) -> None:
    with mounts_of_its_own() as places:
        place = hub.folder / "srv"
        for name in ("old", "new"):
            places.append(hub.folder / name)
            tmpfs(hub.folder / name)
        places.append(place)
        place.mkdir()
        hub.write_config(paths=[{"from": "nginx/", "to": f"{place}/x/"}])
        shell("mount", "--bind", hub.folder / "old", place)
        assert hub.sync().code == 0
        shell("umount", place)
        shell("mount", "--bind", hub.folder / "new", place)
        assert hub.sync().code == 0 and (place / "x/nginx.conf").read_text() == "one\n"


@pytest.mark.parametrize("kind", ["another file system", "a bind mount of the same one"])
@pytest.mark.parametrize("below", ["", "data/"])
def test_a_bare_mount_point_is_neither_filled_nor_taken_for_a_deletion(
    hub: SyncEnv, kind: str, below: str
) -> None:
    """Also where the mount is below `to`, and only some of the job's files were on it."""
    with mounts_of_its_own() as places:
        hub.repo.commit({"nginx/data/d": "d\n", "nginx/data/e": "e\n"})
        place = hub.folder / "mnt" / below
        places.append(place)
        real = hub.folder / "real"
        real.mkdir()
        if kind == "another file system":
            places.append(real)
            tmpfs(real)
        place.mkdir(parents=True)
        shell("mount", "--bind", real, place)
        hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/mnt/"}])
        assert hub.sync().code == 0
        shell("umount", place)
        hub.repo.commit({"nginx/data/e": None, "nginx/data/d": "new\n"})
        for done in (hub.plan(), hub.sync()):
            assert done.code == 1 and done.job["changes"] == []
            assert f"nothing is mounted at {str(place).rstrip('/')}" in done.job["error"]["message"]
        assert list(place.iterdir()) == [] and (real / "d" if below else real / "data/d").exists()
        shell("mount", "--bind", real, place)
        assert hub.sync().code == 0
        assert (hub.folder / "mnt/data/d").read_text() == "new\n"
        assert not (hub.folder / "mnt/data/e").exists()


def test_a_bind_mount_that_only_a_unit_has_is_no_mount_that_went(hub: SyncEnv) -> None:
    """ReadWritePaths= shows a folder at its own place: a shell does not see that mount."""
    with mounts_of_its_own() as places:
        place = hub.folder / "etc"
        place.mkdir()
        places.append(place)
        shell("mount", "--bind", place, place)
        hub.write_config(paths=[{"from": "nginx/", "to": f"{place}/nginx/"}])
        assert hub.sync().code == 0
        for file in (place / "nginx").rglob("*.conf"):
            file.unlink()
        shell("umount", place)
        assert hub.sync().code == 0 and (place / "nginx/nginx.conf").read_text() == "one\n"
