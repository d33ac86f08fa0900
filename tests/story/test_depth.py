"""Trees that are nested very deeply, in a repository and on the disk: one clear message each,
and the next run is good.
"""

from __future__ import annotations

import os

import pytest

from tests.story.test_hostile_trees import nested, put, surroundings
from tests.support.deep import clear, dig
from tests.support.sync_env import SyncEnv


@pytest.mark.usefixtures("deep_tmp_path")
@pytest.mark.parametrize("depth", [101, 1_100])
def test_a_repository_nested_too_deeply_is_refused_and_mended_upstream(
    hub: SyncEnv, depth: int
) -> None:
    hub.sync()
    good, before = hub.repo.head(), surroundings(hub)
    put(hub.repo, nested(depth)(hub.repo), False)
    done = hub.sync()
    error = done.job["error"]
    assert (done.code, error["kind"]) == (1, "mirror")
    assert "is nested deeper than 100 folders" in error["message"] and "exclude" in error["hint"]
    assert "Traceback" not in done.err and surroundings(hub) == before
    hub.repo.refs["refs/heads/main"] = good
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().job["status"] == "changed"


def test_a_folder_nested_too_deeply_may_be_excluded(hub: SyncEnv) -> None:
    put(hub.repo, nested(1_100)(hub.repo), False)
    paths = [{"from": "nginx/", "to": f"{hub.dest}/", "exclude": ["d/"]}]
    hub.write_config(paths=paths)
    assert hub.sync().code == 0 and set(hub.tree()) == {"fine.conf"}


@pytest.mark.usefixtures("deep_tmp_path")
def test_a_deep_tree_that_another_put_into_a_published_one_is_named_and_left(hub: SyncEnv) -> None:
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": f"{hub.dest}/current/"}])
    assert hub.sync().code == 0
    dig((hub.dest / "current").resolve(), 3_000)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    error = done.job["error"]
    assert (done.code, error["kind"]) == (1, "mirror")
    assert "is nested deeper than 2047 folders" in error["message"]
    assert error["hint"] == f"find what made it, and move {hub.dest}/current/d away or remove it"
    assert (hub.dest / "current/nginx.conf").read_text() == "one\n"
    clear((hub.dest / "current").resolve() / "d")
    assert hub.sync().job["status"] == "changed"
    assert (hub.dest / "current/nginx.conf").read_text() == "two\n"


@pytest.mark.usefixtures("deep_tmp_path")
def test_an_old_published_tree_is_removed_however_deep_it_has_become(hub: SyncEnv) -> None:
    hub.write_config(
        publish="symlink", keep="1", paths=[{"from": "nginx/", "to": f"{hub.dest}/current/"}]
    )
    assert hub.sync().code == 0
    first = hub.dest / os.readlink(hub.dest / "current")
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    other = hub.dest / "20200101T000000-0123456789ab"
    other.mkdir()
    dig(other, 1_100)
    assert hub.sync().code == 0
    assert not other.exists() and not first.exists()


@pytest.mark.usefixtures("deep_tmp_path")
def test_a_folder_that_becomes_a_file_may_hold_a_deep_tree(hub: SyncEnv) -> None:
    hub.sync()
    dig(hub.dest / "sites", 1_100)
    hub.repo.commit({"nginx/sites": "a file\n", "nginx/sites/a.conf": None})
    done = hub.sync("--allow-delete", "100")
    assert done.code == 1 and "sites/d is in it and stays" in done.job["error"]["message"]
    clear(hub.dest / "sites/d")


@pytest.mark.usefixtures("deep_tmp_path")
def test_what_a_version_without_the_limit_published_is_replaced_when_upstream_is_mended(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.write_config(
        publish="symlink", keep="1", paths=[{"from": "nginx/", "to": f"{hub.dest}/current/"}]
    )
    hub.sync()
    good = hub.repo.head()
    with monkeypatch.context() as former:
        former.setattr("syncd.engine.desired.MAX_DEPTH", 5_000)
        put(hub.repo, nested(600)(hub.repo), False)
        assert hub.sync("--allow-delete", "100").code == 0
    assert (hub.dest / "current/d").exists()
    hub.repo.refs["refs/heads/main"] = good
    assert hub.sync("--allow-delete", "100").code == 0
    assert sorted(os.listdir(hub.dest / "current")) == ["nginx.conf", "sites"]
    assert len(os.listdir(hub.dest)) == 2
