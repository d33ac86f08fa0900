"""Judging a path while opening it, on files of the user who runs the tests: modes, links,
swaps and who may read a secret.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd import trusted_path
from syncd.trusted_path import TrustProblem, open_checked, problems_for_owner


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose owner is taken for root, whoever runs the tests."""
    monkeypatch.setattr(trusted_path, "ROOT", os.geteuid())
    tmp_path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").write_text("x")
    return tmp_path


def fixes(tmp: Path, path: str) -> list[str]:
    descriptor, doubts = open_checked(tmp / path)
    os.close(descriptor)
    return [one.fix.replace(str(tmp), "TMP") for one in doubts if one.path.startswith(str(tmp))]


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("etc/file", 0o644, []),
        ("etc/file", 0o664, ["chmod go-w TMP/etc/file"]),
        ("etc/file", 0o602, ["chmod go-w TMP/etc/file"]),
        ("etc", 0o755, []),
        ("etc", 0o775, ["chmod go-w TMP/etc"]),
        ("etc", 0o1777, []),
    ],
)
def test_what_group_or_others_may_write_is_doubted(
    tmp: Path, name: str, mode: int, expected: list[str]
) -> None:
    (tmp / name).chmod(mode)
    assert fixes(tmp, "etc/file") == expected


def test_a_folder_that_is_listed_may_not_be_sticky_and_open(tmp: Path) -> None:
    (tmp / "etc").chmod(0o1777)
    assert fixes(tmp, "etc") == ["chmod go-w TMP/etc"]


def test_each_link_is_followed_and_its_folder_judged(tmp: Path) -> None:
    (tmp / "open").mkdir()
    (tmp / "open").chmod(0o777)
    (tmp / "open/link").symlink_to("../etc")
    assert fixes(tmp, "open/link/file") == ["chmod go-w TMP/open"]
    (tmp / "second").symlink_to(tmp / "open/link/file")
    assert fixes(tmp, "second") == ["chmod go-w TMP/open"]
    assert fixes(tmp, "etc/../etc/./file") == []


def test_links_that_lead_to_each_other_end(tmp: Path) -> None:
    (tmp / "a").symlink_to("b")
    (tmp / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        open_checked(tmp / "a")
    with pytest.raises(FileNotFoundError, match="missing"):
        open_checked(tmp / "missing")


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_followed(
    tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read is what was judged, or nothing."""
    opened = os.open

    def swapped(path: object, flags: int, *more: object, dir_fd: int | None = None) -> int:
        if path == "file" and not flags & os.O_PATH:
            (tmp / "etc/file").unlink()
            (tmp / "etc/file").symlink_to("/etc/passwd")
        return opened(path, flags, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(OSError, match="Too many levels"):
        open_checked(tmp / "etc/file")


def test_nothing_stays_open_but_what_was_asked_for(tmp: Path) -> None:
    (tmp / "link").symlink_to(tmp / "etc/file")
    before = os.listdir("/proc/self/fd")
    for path in ("etc/file", "link", "etc/../etc"):
        fixes(tmp, path)
    with pytest.raises(FileNotFoundError):
        open_checked(tmp / "etc/missing/file")
    assert os.listdir("/proc/self/fd") == before


def test_other_users_than_root_are_not_judged(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp / "etc/file").chmod(0o666)
    monkeypatch.setattr(trusted_path, "ROOT", os.geteuid() + 1)
    assert fixes(tmp, "etc/file") == []


def test_the_user_of_the_state_is_trusted_with_what_it_owns_and_not_with_what_all_may_write() -> (
    None
):
    theirs, open_to_all = (
        TrustProblem("/a", "belongs to x", 7, "chown root: /a"),
        TrustProblem("/a", "can be written", None, "chmod go-w /a"),
    )
    assert problems_for_owner([theirs, open_to_all, open_to_all], None) == [theirs, open_to_all]
    assert problems_for_owner([theirs, open_to_all], 7) == [open_to_all]
    assert problems_for_owner([theirs, open_to_all], 8) == [theirs, open_to_all]


def test_an_absolute_path_needs_no_working_folder(
    tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp / "gone").mkdir()
    monkeypatch.chdir(tmp / "gone")
    (tmp / "gone").rmdir()
    assert fixes(tmp, "etc/file") == []
    monkeypatch.chdir(tmp)
    descriptor, _ = open_checked("etc/file")
    assert os.read(descriptor, 9) == b"x"
    os.close(descriptor)
