"""Destinations on disks that name one file in several ways: exFAT ignores case, a bind mount shows one folder twice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.mounts import EXFAT_TOOLS, exfat, lacking, no_root
from tests.support.stand import Stand, stand, tree_of

pytestmark = pytest.mark.root

@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Stand]:
    missing = lacking(*EXFAT_TOOLS)
    if missing:
        pytest.skip(f"needs {missing}")
    files = {"nginx/Upper.txt": "one\n", "nginx/Dir/f": "f\n", "nginx/same": "same\n"}
    with stand(tmp_path, files) as hub, exfat(tmp_path / "image", tmp_path / "mnt") as place:
        hub.write_config(paths=[{"from": "nginx/", "to": f"{place}/x/"}])
        assert hub.sync().code == 0
        yield hub


def renamed(hub: Stand, old: str, new: str, content: str) -> None:
    hub.repo.commit({f"nginx/{old}": None, f"nginx/{new}": content})


@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
@pytest.mark.parametrize("content", ["one\n", "two\n"], ids=["same content", "changed"])
def test_a_file_renamed_only_in_case_stays_on_a_disk_that_ignores_case(
    mounted: Stand, drift: str, content: str
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
def test_a_folder_renamed_only_in_case_keeps_its_files(mounted: Stand, content: str) -> None:
    renamed(mounted, "Dir/f", "dir/f", content)
    done = mounted.sync()
    assert done.code == 0 and "remove" not in [one["action"] for one in done.job["changes"]]
    assert (mounted.folder / "mnt/x/dir/f").read_text() == content
    assert mounted.sync().job["changes"] == []
    renamed(mounted, "dir/f", "g", content)
    assert mounted.sync().code == 0
    assert not (mounted.folder / "mnt/x/dir").exists(), "the folder is still known as syncd's"


def test_a_destination_respelled_only_in_case_keeps_its_files(mounted: Stand) -> None:
    place = f"{mounted.folder}/mnt"
    mounted.write_config(paths=[{"from": "nginx/", "to": f"{place}/X/"}])
    done = mounted.sync()
    assert (done.code, done.job["changes"]) == (0, [])
    assert (mounted.folder / "mnt/x/same").read_text() == "same\n"
    assert mounted.call("status", "--json").json["jobs"][0]["files"] == 3
    assert mounted.sync().job["changes"] == []


def test_two_jobs_cannot_own_one_file_under_two_cases(mounted: Stand) -> None:
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
    with stand(tmp_path) as hub:
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
