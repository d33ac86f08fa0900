"""What every Mirror says of names that some file systems take for one,
on a disk that tells them apart.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from syncd.errors import MirrorError
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.symlink_publish import SymlinkMirror
from syncd.models import Job, PathRule
from syncd.policies import Publish
from syncd.ports import Mirror
from tests.support.clock import FakeClock

INTENT = "0123456789ab"
NAMES = ("README", "Readme")
COMPOSED = ("é", "e\u0301")


@pytest.fixture(params=["files", "symlink"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Mirror:
    """Over tmp_path/site/current, or, with publish: symlink, over the trees beside that link."""
    disk = DiskMirror(tmp_path / "trash", FakeClock())
    job = Job(
        "web",
        "ops",
        "acme/infra",
        "main",
        (PathRule("www", f"{tmp_path}/site/current", True),),
        publish=Publish(request.param),
    )
    return disk if request.param == "files" else SymlinkMirror(disk, job, FakeClock())


def everything(folder: Path) -> list[str]:
    return sorted(
        os.path.join(place, name)
        for place, folders, files in os.walk(folder)
        for name in [*folders, *files]
    )


def test_looking_writes_nothing_and_does_not_tell_in_a_folder_that_holds_nothing(
    mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    assert mirror.distinguishes_names(f"{tmp_path}/site/current", NAMES, f"{tmp_path}/site") is None
    assert everything(tmp_path) == [f"{tmp_path}/site"]


def test_what_stands_in_the_deepest_folder_tells_of_case_and_not_of_composition(
    mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/20261129T120000-0123456789ab").mkdir()
    folder = f"{tmp_path}/site/current/sub"
    assert mirror.distinguishes_names(folder, NAMES, f"{tmp_path}/site") is True
    assert mirror.distinguishes_names(folder, COMPOSED, f"{tmp_path}/site") is None


@pytest.mark.parametrize("made", ["", "site"])
@pytest.mark.parametrize("names", [NAMES, COMPOSED])
def test_a_trial_tells_and_leaves_nothing(
    mirror: Mirror, tmp_path: Path, names: tuple[str, ...], made: str
) -> None:
    (tmp_path / made).mkdir(exist_ok=True)
    before = everything(tmp_path)
    assert (
        mirror.distinguishes_names(
            f"{tmp_path}/site/current/sub", names, f"{tmp_path}/site", INTENT
        )
        is True
    )
    assert everything(tmp_path) == before


def test_a_trial_that_finds_one_name_taken_by_the_other_says_so_and_leaves_nothing(
    mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    assert (
        mirror.distinguishes_names(
            f"{tmp_path}/site/current", ("same", "same"), f"{tmp_path}/site", INTENT
        )
        is False
    )
    assert everything(tmp_path / "site") == []


def test_a_trial_that_can_not_be_made_names_the_folder(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with pytest.raises(MirrorError, match=f"{tmp_path}/site: File name too long"):
        mirror.distinguishes_names(
            f"{tmp_path}/site/current", ("n" * 256, "N" * 256), f"{tmp_path}/site", INTENT
        )
    assert everything(tmp_path / "site") == []


def test_what_a_trial_left_is_swept_with_its_intent_and_nothing_else_is(
    mirror: Mirror, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path / "site"):
        folder.mkdir(exist_ok=True)
        trial, other = folder / f".syncd-{INTENT}-a1", folder / ".syncd-ffffffffffff-a1"
        for one in (trial, other):
            one.mkdir()
            (one / "README").touch()
    filled = tmp_path / "site" / f".syncd-{INTENT}-b2"
    filled.mkdir()
    (filled / "theirs").write_text("not empty")
    assert (
        mirror.remove_temp_files(
            INTENT, {("/", str(tmp_path)), (f"{tmp_path}/site", f"{tmp_path}/site")}
        )
        == 2
    )
    assert sorted(path.name for path in tmp_path.rglob(".syncd-*")) == [
        filled.name,
        other.name,
        other.name,
    ]
    assert (filled / "theirs").read_text() == "not empty"


def test_no_trial_is_made_behind_a_link_below_the_root(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "site/sub").symlink_to(tmp_path / "elsewhere")
    before = os.stat(tmp_path / "elsewhere").st_mtime_ns
    assert (
        mirror.distinguishes_names(f"{tmp_path}/site/sub/deep", NAMES, f"{tmp_path}/site", INTENT)
        is True
    )
    assert os.stat(tmp_path / "elsewhere").st_mtime_ns == before


def test_there_is_nothing_to_sweep_where_the_crash_came_before_the_first_folder(
    mirror: Mirror, tmp_path: Path
) -> None:
    assert mirror.remove_temp_files(INTENT, {(f"{tmp_path}/site", f"{tmp_path}/site/current")}) == 0


LOOKS: dict[str, Callable[[Mirror, str], object]] = {
    "is_same_file": lambda mirror, path: mirror.is_same_file(path, path.upper()),
    "other_spellings": lambda mirror, path: mirror.other_spellings([path]),
    "open": lambda mirror, path: mirror.open(path, os.path.dirname(path)),
    "resolve": lambda mirror, path: mirror.resolve([os.path.dirname(path)]),
    "mount_points": lambda mirror, path: mirror.mount_points([os.path.dirname(path)]),
    "remove_temp_files": lambda mirror, path: mirror.remove_temp_files(
        INTENT, [(os.path.dirname(path), os.path.dirname(path))]
    ),
}


@pytest.mark.parametrize("call", LOOKS.values(), ids=LOOKS)
def test_a_disk_that_fails_is_a_mirror_error(
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Mirror, str], object],
) -> None:
    (tmp_path / "site").mkdir()

    def fails(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))

    with monkeypatch.context() as patch:
        for name in ("open", "stat", "lstat", "listdir", "scandir"):
            patch.setattr(os, name, fails)
        with pytest.raises(MirrorError):
            call(mirror, f"{tmp_path}/site/current/a")
