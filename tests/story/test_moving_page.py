"""docs/moving.md: its steps of a safe move, on a folder that another tool has filled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.sync_env import SyncEnv

PAGE = (Path(__file__).parents[2] / "docs/moving.md").read_text()
PEERS = ("git-sync", "Flux", "confd", "r10k", "ansible-pull", "cron and git")


@pytest.fixture
def filled(hub: SyncEnv) -> SyncEnv:
    """A destination with an equal, a different and a foreign file, and the page's job for it."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    job = yaml.safe_load(block)["jobs"]["nginx"]
    hub.repo.commit(
        {
            "nginx/nginx.conf": "worker_processes 1;\n",
            "nginx/equal.conf": "equal\n",
            "nginx/new.conf": "new\n",
        }
    )
    hub.dest.mkdir(parents=True, exist_ok=True)
    (hub.dest / "nginx.conf").write_text("worker_processes 64;\n")
    (hub.dest / "equal.conf").write_text("equal\n")
    (hub.dest / "old.conf").write_text("of the old tool\n")
    hub.jobs["nginx"] = {**job, "paths": [{**job["paths"][0], "to": f"{hub.dest}/"}]}
    hub.write()
    return hub


def test_the_first_sync_of_the_move_adopts_equal_files_and_leaves_the_others(
    filled: SyncEnv,
) -> None:
    equal = (filled.dest / "equal.conf").stat()
    plan = filled.call("plan")
    assert "nginx.conf  another file is here" in plan.out and "equal.conf" not in plan.out
    done = filled.sync()
    actions = {Path(one["path"]).name: one["action"] for one in done.job["changes"]}
    assert (done.code, actions["nginx.conf"], actions["new.conf"]) == (0, "keep", "write")
    after = (filled.dest / "equal.conf").stat()
    assert (equal.st_ino, equal.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (filled.dest / "nginx.conf").read_text() == "worker_processes 64;\n"
    assert (filled.dest / "old.conf").read_text() == "of the old tool\n"
    assert filled.call("status").code == 3


def test_the_hand_over_keeps_what_it_replaces_and_the_way_back_restores_it(filled: SyncEnv) -> None:
    filled.sync()
    filled.jobs["nginx"]["drift"] = "restore"
    filled.write()
    file = filled.dest / "nginx.conf"
    assert "takes over (your version goes to the trash)" in filled.call("plan").out
    assert filled.sync().code == 0 and file.read_text() == "worker_processes 1;\n"
    assert (filled.dest / "old.conf").read_text() == "of the old tool\n"
    assert filled.call("pause", "nginx").code == 0
    assert filled.call("trash", "restore", str(file)).code == 0
    assert file.read_text() == "worker_processes 64;\n"
    assert filled.sync().job["status"] == "skipped"
    assert file.read_text() == "worker_processes 64;\n"


@pytest.mark.docs
@pytest.mark.parametrize("peer", PEERS)
def test_each_tool_has_a_table_of_equivalents(peer: str) -> None:
    section = PAGE.partition(f"\n## From {peer}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert len(rows) >= 12 and rows[0][1] == "syncd"
