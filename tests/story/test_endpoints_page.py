"""docs/endpoints.md: the requests of each case that it counts, over real sockets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator.repository import File, Link
from tests.support.sync_env import SyncEnv, sync_env

PAGE = (Path(__file__).parents[2] / "docs/endpoints.md").read_text()
# The page's name of an endpoint -> the simulator's routes.
ROUTES = {
    "commits": ["head"],
    "contents": ["contents"],
    "trees": ["tree"],
    "blobs": ["blob"],
    "Git commits": ["commit"],
    "repository": ["repo"],
    "tarball": ["tarball", "codeload"],
    "LFS": ["lfs", "lfs_object"],
}
MANY = {f"conf/{number}": f"{number}\n" for number in range(200)}
SMALL = {"README": "x\n", "conf/a": "1\n", "conf/b": "2\n", "conf/c": "3\n"}
NESTED = {"README": "x\n", "conf/a": "1\n", "conf/x/b": "2\n", "conf/y/c": "3\n"}


def nothing(hub: SyncEnv) -> None:
    """Prepare nothing."""


def huge(hub: SyncEnv) -> None:
    hub.repo.declared_kilobytes = 3 << 20


def large_files(hub: SyncEnv) -> None:
    hub.repo.commit({f"conf/{name}": hub.repo.lfs_pointer(name.encode() * 9000) for name in "ab"})


def signed(hub: SyncEnv) -> None:
    hub.repo.commit({"conf/a": "signed\n"}, verification="valid")


Case = tuple[dict[str, Any], list[str], Callable[[SyncEnv], object], dict[str, Any]]
FIRST: dict[str, Case] = {
    "one file": (SMALL, ["conf/a"], nothing, {}),
    "one file in a folder of 1,200 entries": (
        {f"conf/{number}": "x" for number in range(1200)},
        ["conf/7"],
        nothing,
        {},
    ),
    "three files of one folder": (SMALL, ["conf/a", "conf/b", "conf/c"], nothing, {}),
    "a folder of three files": (SMALL, ["conf/"], nothing, {}),
    "the same, one of them executable": (
        {**SMALL, "conf/a": File(b"1", executable=True)},
        ["conf/"],
        nothing,
        {},
    ),
    "a folder with subfolders, three files": (NESTED, ["conf/"], nothing, {}),
    "a folder with a file and a symbolic link": (
        {"conf/a": "1\n", "conf/l": Link("a")},
        ["conf/"],
        nothing,
        {},
    ),
    "a folder of 200 files": (MANY, ["conf/"], nothing, {}),
    "200 files of a repository of 3 GB": (MANY, ["conf/"], huge, {}),
    "a folder with two LFS files": ({}, ["conf/"], large_files, {"lfs": "fetch"}),
    "one file, only signed commits": (
        SMALL,
        ["conf/a"],
        signed,
        {"require": {"verified": True}},
    ),
}
LATER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": (SMALL, {}),
    "a commit that touches no listed folder": (SMALL, {"README": "y\n"}),
    "one of three files of a folder changed": (SMALL, {"conf/a": "9\n"}),
    "the same, in a folder with subfolders": (NESTED, {"conf/a": "9\n"}),
}


def counted(text: str) -> dict[str, int]:
    """Return route group -> number of requests, from a cell such as `commits 1, contents 2`."""
    parts = re.findall(r"([A-Za-z ]+?) (\d+)(?: \(304\))?(?:, |$)", text)
    return {name: int(number) for name, number in parts}


def rows() -> dict[str, tuple[dict[str, int], int]]:
    """Return the rows of the page's two tables: case -> requests by endpoint, and their sum."""
    section = PAGE.partition("## What syncd requests")[2].partition("\n## ")[0]
    found = re.findall(r"^\| ([^|]+) \| (commits [^|]+) \| (\d+) \|$", section, re.MULTILINE)
    return {case: (counted(requests), int(total)) for case, requests, total in found}


def requests_of(hub: SyncEnv) -> dict[str, int]:
    routes = hub.github.routes()
    summed = {name: sum(routes.get(one, 0) for one in ROUTES[name]) for name in ROUTES}
    assert sum(summed.values()) == sum(routes.values()), routes
    return {name: number for name, number in summed.items() if number}


@contextmanager
def job(folder: Path, files: dict[str, Any], paths: list[str], **keys: Any) -> Iterator[SyncEnv]:
    with sync_env(folder, files, as_app=False) as hub:
        places = [{"from": path, "to": f"{hub.dest}/{path}"} for path in paths]
        hub.write_config(ref="refs/heads/main", paths=places, **keys)
        yield hub


@pytest.mark.docs
def test_the_page_has_each_case_and_no_other() -> None:
    assert list(rows()) == [*FIRST, *LATER]
    assert all(sum(found.values()) == total for found, total in rows().values())


@pytest.mark.parametrize("case", FIRST)
def test_a_first_run_makes_the_requests_that_the_page_counts(tmp_path: Path, case: str) -> None:
    files, paths, prepare, keys = FIRST[case]
    with job(tmp_path, files, paths, **keys) as hub:
        prepare(hub)
        done = hub.sync()
        assert done.code == 0, done.err or done.job["error"]
        assert requests_of(hub) == rows()[case][0]


@pytest.mark.parametrize("case", LATER)
def test_a_later_run_makes_the_requests_that_the_page_counts(tmp_path: Path, case: str) -> None:
    files, change = LATER[case]
    with job(tmp_path, files, ["conf/"]) as hub:
        assert hub.sync().code == 0
        if change:
            hub.repo.commit(change)
        hub.github.forget_requests()
        assert hub.sync().code == 0
        assert requests_of(hub) == rows()[case][0]
        assert hub.github.count(status=304) == (0 if change else 1)
