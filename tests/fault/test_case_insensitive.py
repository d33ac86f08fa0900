"""A disk that ignores case: exFAT, by FUSE on a loop device.

Names that it takes for one are refused before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.colliding_names import is_same_path
from tests.fault.mounts import EXFAT_TOOLS, exfat, lacking
from tests.support.sync_env import SyncEnv, sync_env

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SAID = "differ only in case or in how their letters are composed"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty exFAT file system, mounted."""
    missing = lacking(*EXFAT_TOOLS)
    if missing:
        pytest.skip(f"needs {missing}")
    with exfat(tmp_path / "exfat.img", tmp_path / "exfat", options="") as place:
        yield place


@pytest.fixture
def hub(tmp_path: Path, disk: Path) -> Iterator[SyncEnv]:
    """A job whose files go to the disk, with the mode that exFAT shows for all of them."""
    with sync_env(tmp_path, {"nginx/1": "good\n"}, as_app=False) as made:
        made.write_config(
            mode="0777", dir_mode="0777", paths=[{"from": "nginx/", "to": f"{disk}/www/"}]
        )
        yield made


def everything(folder: Path) -> list[str]:
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("one", "other"), [("README", "Readme"), ("Conf/x", "conf/X"), ("CONF", "conf/x"), ("É", "é")]
)
@pytest.mark.parametrize("standing", [[], ["www/"], ["www/", "www/other"]])
def test_twins_are_refused_before_anything_is_written(
    hub: SyncEnv, disk: Path, one: str, other: str, standing: list[str]
) -> None:
    for name in standing:
        (disk / name).mkdir() if name.endswith("/") else (disk / name).touch()
    before = everything(disk)
    hub.repo.commit({f"nginx/{one}": "one\n", f"nginx/{other}": "other\n"})
    for _ in range(2):
        done = hub.sync()
        assert (done.code, done.job["error"]["kind"]) == (1, "mirror") and SAID in done.job[
            "error"
        ]["message"], done.job
        assert done.job["changes"] == [] and everything(disk) == before


def test_a_plan_finds_them_where_anything_stands_and_never_tries(hub: SyncEnv, disk: Path) -> None:
    hub.repo.commit({"nginx/README": "one\n", "nginx/Readme": "other\n"})
    assert hub.plan().code == 0 and everything(disk) == [], "nothing to look at: a sync will tell"
    (disk / "www").mkdir()
    (disk / "www/other").touch()
    done = hub.plan()
    assert (
        done.code == 1
        and SAID in done.job["error"]["message"]
        and everything(disk) == ["www", "www/other"]
    )


def test_a_twin_of_what_stands_is_refused_and_what_stands_stays(hub: SyncEnv, disk: Path) -> None:
    (disk / "www").mkdir()
    (disk / "www/Readme").write_text("theirs\n")
    hub.repo.commit({"nginx/README": "one\n", "nginx/readme": "other\n"})
    assert hub.plan().code == hub.sync().code == 1
    assert (
        everything(disk) == ["www", "www/Readme"]
        and (disk / "www/Readme").read_text() == "theirs\n"
    )


def test_behind_a_link_the_folder_of_the_link_tells(hub: SyncEnv, disk: Path) -> None:
    """exFAT has no links, so nothing could be published;
    the names are refused before that shows.
    """
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": f"{disk}/web/current/"}])
    hub.repo.commit({"nginx/README": "one\n", "nginx/Readme": "other\n"})
    done = hub.sync()
    assert done.code == 1 and SAID in done.job["error"]["message"] and everything(disk) == []


def test_check_finds_two_jobs_with_one_destination_by_looking_alone(
    hub: SyncEnv, disk: Path
) -> None:
    hub.jobs["nginx"]["paths"] = [{"from": "nginx/1", "to": f"{disk}/www/x.conf"}]
    hub.jobs["other"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/1", "to": f"{disk}/WWW/X.conf"}],
    }
    hub.write()
    assert hub.call("check").code == 0 and everything(disk) == [], "nothing stands that could tell"
    (disk / "www").mkdir()
    (disk / "www/other").touch()
    done = hub.call("check")
    assert done.code == 2 and everything(disk) == ["www", "www/other"]
    assert (
        f"jobs.other.paths[0].to: '{disk}/WWW/X.conf' is written by jobs.nginx.paths[0] too (as "
        f"'{disk}/www/x.conf', which is the same place on this disk)"
    ) in done.err
    assert is_same_path(f"{disk}/www/new/x", f"{disk}/WWW/NEW/X") and not is_same_path(
        f"{hub.folder}/www", f"{hub.folder}/WWW"
    )


def test_a_hook_that_needs_twins_laid_out_on_such_a_disk_says_what_to_do(
    hub: SyncEnv, disk: Path, tmp_path: Path
) -> None:
    """The destination tells them apart and the state folder does not.

    The store needs more than exFAT has, so only the staging area lies there.
    """
    hub.repo.commit({"nginx/README": "one\n", "nginx/Readme": "other\n"})
    hub.state.mkdir(mode=0o700)
    (hub.state / "staging").symlink_to(disk)
    hub.write_config(validate="true", paths=[{"from": "nginx/", "to": f"{hub.dest}/"}])
    done = hub.sync()
    assert (
        done.code == 1 and "the files for a hook can't be laid out" in done.job["error"]["message"]
    ), done.job
    assert (
        "set state: to a disk that tells them apart" in done.job["error"]["hint"]
        and hub.tree() == {}
    )
