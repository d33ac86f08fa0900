"""Trees that are nested very deeply, in a repository and on the disk: one clear message each, and the next run is good."""

from __future__ import annotations

import pytest

from tests.story.test_hostile_trees import nested, put, surroundings
from tests.support.stand import Stand


@pytest.mark.usefixtures("deep_tmp_path")
@pytest.mark.parametrize("depth", [101, 1_100, 1_900])
def test_a_repository_nested_too_deeply_is_refused_and_mended_upstream(
    hub: Stand, depth: int
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
