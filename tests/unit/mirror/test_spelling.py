"""Whether two paths are one directory entry, and the last guard before a name is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.engine.coverage import Coverage, coverage_of, renamed_jobs
from syncd.errors import MirrorError
from syncd.mirror.spelling import is_same_file, other_spellings, resolve
from syncd.models import Job, PathRule, RealFolder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    (tmp_path / "run/x").write_text("x")
    os.link(tmp_path / "run/x", tmp_path / "run/y")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("run/x", "run/x", True),
        ("var/x", "run/x", True),
        ("var/../run/x", "run/x", True),
        ("run/x", "run/y", False),  # two hard links
        ("run/x", "other/x", False),
        ("run/x", "run/X", False),  # this disk tells the two apart
        ("run/gone", "var/gone", True),  # one entry, whether or not it exists
        ("gone/x", "run/x", False),
    ],
)
def test_two_paths_are_one_entry_by_their_folder_and_name(
    place: Path, one: str, other: str, same: bool
) -> None:
    assert is_same_file(f"{place}/{one}", f"{place}/{other}") is same


def test_only_a_name_that_the_folder_does_not_list_has_another_spelling(place: Path) -> None:
    assert other_spellings([f"{place}/run/x", f"{place}/run/X", f"{place}/gone/x"]) == {}


def test_a_folder_is_resolved_as_far_as_it_exists(place: Path) -> None:
    (place / "dangling").symlink_to("nowhere")
    asked = {
        "var": "run",
        "var/new/er": "run/new/er",
        "var/x/below": "run/x/below",
        "dangling": "nowhere",
        "gone/x": "gone/x",
    }
    found = resolve([f"{place}/{folder}" for folder in asked])
    expected = {f"{place}/{one}": RealFolder(f"{place}/{other}") for one, other in asked.items()}
    assert found == expected


def test_a_folder_that_cannot_be_resolved_is_an_error_and_not_a_guess(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    with pytest.raises(MirrorError, match=r"can't resolve .*/loop"):
        resolve([f"{place}/loop/x"])


# --- renamed jobs ---------------------------------------------------------------------------------


def lists(*rules: PathRule) -> Coverage:
    job = Job("job", "me", "acme/infra", None, rules)
    return coverage_of(job, lambda folders: {folder: RealFolder(folder) for folder in folders})


def test_on_a_disk_that_ignores_case_two_spellings_are_covered_as_one() -> None:
    rule = PathRule("", "/mnt/Sites", True, include=("*.CONF",))
    job = Job("job", "me", "acme/infra", None, (rule,))
    disk = RealFolder("/mnt", ignores_case=True)
    coverage = coverage_of(job, lambda _: {"/mnt": disk})
    assert coverage.covers(disk.join("/sites/A.conf")) and coverage.covers(
        disk.join("/SITES/a.Conf")
    )
    assert not coverage.covers(disk.join("/sites/a.txt"))


ETC = PathRule("", "/etc/nginx", True)
CONF = PathRule("", "/etc/nginx", True, include=("*.conf",))
MOTD = PathRule("motd", "/etc/motd", False)
TWO = ["/etc/nginx/a.conf", "/etc/nginx/b"]


@pytest.mark.parametrize(
    ("new", "removed", "expected"),
    [
        ({"web": [ETC]}, {"nginx": TWO}, {"web": "nginx"}),
        ({"web": [CONF]}, {"nginx": TWO}, {}),  # lists only one of its two files
        ({"web": [ETC, MOTD]}, {"nginx": TWO}, {"web": "nginx"}),
        ({"web": [ETC, MOTD]}, {"nginx": TWO, "motd": ["/etc/motd"]}, {}),  # two jobs became one
        ({"web": [ETC], "also": [CONF]}, {"nginx": TWO}, {}),  # one job became two
        ({"web": [ETC], "also": [MOTD]}, {"nginx": TWO}, {"web": "nginx"}),
        ({"web": [ETC], "b": [MOTD]}, {"a": TWO, "m": ["/etc/motd"]}, {"web": "a", "b": "m"}),
        ({"web": [MOTD]}, {"nginx": TWO}, {}),
        ({"web": [ETC]}, {}, {}),
    ],
)
def test_a_new_job_is_a_renamed_one_when_it_lists_all_files_of_exactly_one_removed_job(
    new: dict[str, list[PathRule]], removed: dict[str, list[str]], expected: dict[str, str]
) -> None:
    assert renamed_jobs({name: lists(*rules) for name, rules in new.items()}, removed) == expected
