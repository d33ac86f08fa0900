"""Random histories: pushes, local edits and policies in any order.

After each run the mirror is what the policy says, and the next run does nothing.

SYNCD_HISTORIES says how many for each policy.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator.repository import File, Link
from tests.support.sync_env import SyncEnv, signatures, sync_env

HISTORIES = int(os.environ.get("SYNCD_HISTORIES", "2"))
NAMES = ("a", "b", "c", "d/x", "d/y", "e/f/g", "d")
CONTENTS = ("one\n", "two\n", "three\n", File(b"#!/bin/sh\n", executable=True))


def push(rng: random.Random, hub: SyncEnv) -> None:
    files = dict(hub.repo.files_of[hub.repo.head()])
    name = f"nginx/{rng.choice(NAMES)}"
    if rng.random() < 0.3:
        files.pop(name, None)
    else:
        for other in [
            one for one in files if one.startswith(name + "/") or name.startswith(one + "/")
        ]:
            del files[other]
        files[name] = rng.choice(CONTENTS)
    files["nginx/always"] = "here\n"
    hub.repo.commit(files, whole=True)


def edit(rng: random.Random, hub: SyncEnv) -> None:
    place = hub.dest / rng.choice(NAMES)
    deed = rng.choice(("write", "delete", "chmod"))
    if deed == "write" and not place.is_dir() and place.parent.is_dir():
        place.write_text(f"edit {rng.random()}")
    elif deed == "delete" and place.is_file():
        place.unlink()
    elif deed == "chmod" and place.is_file():
        place.chmod(rng.choice((0o600, 0o644, 0o755)))


def expected(hub: SyncEnv) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for path, node in hub.repo.files_of[hub.repo.head()].items():
        content = (
            node.content
            if isinstance(node, File)
            else node.encode()
            if isinstance(node, str)
            else node
        )
        shown[path.removeprefix("nginx/")] = (
            ("exec", content) if isinstance(node, File) and node.executable else content
        )
    return shown


# the first at a push, the others in the root lane
@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=[pytest.mark.root] if seed else []) for seed in range(HISTORIES)],
)
@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
def test_after_a_run_the_mirror_is_as_the_policy_says_and_the_next_run_does_nothing(
    tmp_path: Path, seed: int, drift: str
) -> None:
    rng = random.Random(f"{seed} {drift}")
    with sync_env(
        tmp_path, {"nginx/always": "here\n", "nginx/a": "one\n", "nginx/d/x": "two\n"}, as_app=False
    ) as hub:
        hub.write_config(drift=drift, limits={"delete": "100%"})
        for _ in range(8):
            for _ in range(rng.randrange(1, 4)):
                rng.choice((push, edit))(rng, hub)
            kept_before = hub.tree()
            planned = hub.plan()
            done = hub.sync()
            blocked = done.code == 1 and done.job["error"]["kind"] == "mirror"
            # somebody's own file or folder stands where a folder or file belongs: named, and left
            if blocked:
                shutil.rmtree(hub.dest)
                hub.dest.mkdir()
                done = hub.sync()
                if drift != "restore":
                    continue
            else:
                assert planned.job["changes"] == done.job["changes"]
            assert done.code == 0, done.job["error"]
            if drift == "restore":
                mine = {path: node for path, node in hub.tree().items() if path in expected(hub)}
                assert mine == expected(hub)
                foreign = set(hub.tree()) - set(expected(hub))
                assert all(hub.tree()[path] == kept_before.get(path) for path in foreign)
            else:
                for change in done.job["changes"]:
                    if change["action"] == "keep":
                        name = str(Path(change["path"]).relative_to(hub.dest))
                        assert hub.tree().get(name) == kept_before.get(name), (
                            "what is kept is not touched"
                        )
            before = signatures(hub.dest)
            again = hub.sync()
            assert again.job["status"] == "unchanged" and again.code == 0, (
                done.job["changes"],
                again.job["changes"],
            )
            assert all(change["action"] == "keep" for change in again.job["changes"])
            assert signatures(hub.dest) == before


def test_links_too_come_to_rest(tmp_path: Path) -> None:
    with sync_env(tmp_path, {"nginx/a": "one\n", "nginx/l": Link("a")}) as hub:
        hub.sync()
        hub.repo.commit({"nginx/l": Link("b"), "nginx/b": "two\n"})
        assert hub.sync().code == 0 and hub.tree()["l"] == ("link", "b")
        (hub.dest / "l").unlink()
        (hub.dest / "l").write_text("a file now")
        assert hub.sync().job["changes"][0]["action"] == "restore" and hub.tree()["l"] == (
            "link",
            "b",
        )
        assert hub.sync().job["status"] == "unchanged"
