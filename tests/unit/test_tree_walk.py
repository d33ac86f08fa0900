"""A walk and a removal by descriptors: any depth, no link followed, two descriptors, an end."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.errors import MirrorError, TimedOutError
from syncd.tree_walk import OPEN_DIR_NOFOLLOW, Step, remove, time_limit, walk
from tests.support.deep import dig

DEPTH = 5_000  # beyond PATH_MAX, and beyond what Python recurses


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, OPEN_DIR_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Only six more than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 6, hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def names(folder: Path, **options: object) -> list[str]:
    with opened(folder) as top:
        return [step.path for step in walk(top, str(folder), **options)]  # type: ignore[arg-type]


def test_a_walk_gives_every_entry_in_order_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "y").mkdir(parents=True)
    top = tmp_path / "top"
    (top / "b/c").mkdir(parents=True)
    (top / "b/c/f").write_text("x")
    (top / "a").symlink_to(outside)
    (top / "b.txt").write_text("x")
    os.mkfifo(top / "odd \udcff\n")
    assert names(top) == ["a", "b", "b/c", "b/c/f", "b.txt", "odd \udcff\n"]
    assert names(top, enters=lambda step: step.name != "c") == [
        "a",
        "b",
        "b/c",
        "b.txt",
        "odd \udcff\n",
    ]


def test_a_walk_ends_below_its_deepest_folder_with_a_message(tmp_path: Path) -> None:
    dig(tmp_path, 11)
    assert len(names(tmp_path, deepest=11)) == 12
    with pytest.raises(MirrorError, match="is nested deeper than 10 folders") as caught:
        names(tmp_path, deepest=10)
    assert caught.value.hint == f"find what made it, and move {tmp_path}/d away or remove it"


def test_a_deep_tree_is_walked_and_removed_with_few_descriptors(deep_tmp_path: Path) -> None:
    dig(deep_tmp_path, DEPTH)
    with opened(deep_tmp_path) as top, few_descriptors():
        assert sum(1 for _ in walk(top, str(deep_tmp_path), deepest=DEPTH)) == DEPTH + 1
        remove(top, "d")
    assert os.listdir(deep_tmp_path) == []


def test_everything_below_is_removed_and_nothing_behind_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "kept").write_text("kept")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    for number in range(200):
        (top / f"a/folder{number}").mkdir()
        (top / f"a/{number}").write_text("x")
    (top / "a/link").symlink_to(outside)
    os.mkfifo(top / "a/b/fifo")
    (top / "a/b").chmod(0o500)
    (top / "a").chmod(0)
    before = os.stat(outside)
    with opened(tmp_path) as parent:
        remove(parent, "top")
        remove(parent, "top")
        assert os.listdir(tmp_path) == ["outside"]
        (tmp_path / "link").symlink_to(outside)
        remove(parent, "link")
    after = os.stat(outside)
    assert (after.st_mode, after.st_mtime_ns, os.listdir(outside)) == (
        before.st_mode,
        before.st_mtime_ns,
        ["kept"],
    )


def moved_while(work: Callable[[Callable[[], None]], None], top: Path, elsewhere: Path) -> None:
    """`work`, while the folder `a/b` is moved elsewhere as soon as something in it is looked at."""
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if (top / "a/b").exists() and looks >= 3:
            os.rename(top / "a/b", elsewhere / "b")

    with pytest.raises(OSError) as caught:
        work(check)
    assert caught.value.errno == errno.ESTALE


def test_a_folder_that_is_moved_meanwhile_leads_nowhere_else(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for folder in (top / "a/b/c", elsewhere / "kept"):
        folder.mkdir(parents=True)
    (top / "a/b/c/f").write_text("x")
    with opened(tmp_path) as parent:
        moved_while(lambda check: remove(parent, "top", check), top, elsewhere)
    assert sorted(os.listdir(elsewhere)) == ["b", "kept"]
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/f").write_text("x")
    (elsewhere / "b").rmdir()
    with opened(top) as opened_top:
        moved_while(lambda check: list(walk(opened_top, "/top", check)) and None, top, elsewhere)


def test_a_deadline_ends_a_walk_and_a_removal_at_the_next_entry(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    for number in range(5):
        (tmp_path / f"top/{number}").write_text("x")
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen > 2:
            raise TimedOutError("over")

    with opened(tmp_path) as parent:
        with pytest.raises(TimedOutError):
            remove(parent, "top", check)
        assert len(os.listdir(tmp_path / "top")) == 3
        with pytest.raises(TimedOutError):
            list(walk(parent, "/", check))


def test_a_limit_of_seconds_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/f").write_text("x")
    with opened(tmp_path) as parent:
        with pytest.raises(OSError, match="it takes longer than -1 s") as caught:
            remove(parent, "top", time_limit(-1))
        assert caught.value.errno == errno.ETIMEDOUT and os.listdir(tmp_path / "top") == ["f"]
        remove(parent, "top", time_limit(3600))


def test_a_step_says_what_it_is_and_its_folder_is_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").write_text("inside")
    with opened(tmp_path) as top:
        steps: list[tuple[Step, str]] = []
        for step in walk(top, "/"):
            inside = os.stat(step.name, dir_fd=step.folder, follow_symlinks=False)
            steps.append((step, stat.filemode(inside.st_mode)[0]))
    assert [(step.path, step.is_folder, kind) for step, kind in steps] == [
        ("a", True, "d"),
        ("a/f", False, "-"),
    ]


@pytest.mark.root
def test_another_file_system_below_is_left(tmp_path: Path) -> None:
    from tests.fault.mounts import privately

    (tmp_path / "top/disk").mkdir(parents=True)

    def work() -> None:
        os.system(f"mount -t tmpfs none {tmp_path}/top/disk && touch {tmp_path}/top/disk/kept")
        with opened(tmp_path) as parent, pytest.raises(OSError) as caught:
            remove(parent, "top")
        assert caught.value.errno == errno.EXDEV and os.listdir(tmp_path / "top/disk") == ["kept"]

    privately(work)
