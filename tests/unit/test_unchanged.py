"""What a look at the destinations covers, and what it notices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.unchanged import Seen, directories_of, is_as_seen, stat_digest

OLD_NS, NEW_NS = 1_600_000_000_000_000_000, 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("roots", "created", "expected"),
    [
        ({"/srv/a": "/srv"}, (), [("", ["/srv/a"])]),
        ({"/srv/x/a": "/srv"}, (), [("/srv/x", ["a"])]),
        ({"/srv/x/y/a": "/srv"}, (), [("/srv/x", []), ("/srv/x/y", ["a"])]),
        ({"/srv/x/a": "/srv", "/srv/x/b": "/srv"}, (), [("/srv/x", ["a", "b"])]),
        ({"/srv/a": "/srv", "/etc/b": "/etc"}, (), [("", ["/srv/a", "/etc/b"])]),
        ({"/srv/x/a": "/srv/x"}, ("/srv/x",), [("", ["/srv/x/a"]), ("/srv/x", [])]),
        ({}, ("/srv/x",), [("/srv/x", [])]),
    ],
)
def test_every_directory_between_a_root_and_its_destinations_is_looked_at(
    roots: dict[str, str], created: tuple[str, ...], expected: list[tuple[str, list[str]]]
) -> None:
    assert directories_of(roots, created) == expected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "x").mkdir(mode=0o755)
    for name in ("a", "b"):
        (tmp_path / "x" / name).write_text("text")
        os.utime(tmp_path / "x" / name, ns=(OLD_NS, OLD_NS))
    return tmp_path


def seen(tree: Path, owners: dict[str, tuple[int | None, int | None]] | None = None) -> Seen:
    directories = [("", [str(tree / "x" / "a")]), (str(tree / "x"), ["b"])]
    return Seen(directories, stat_digest(directories), owners or {})


def replace_by_equal_file(file: Path) -> None:
    (file.parent / "new").write_text("text")
    os.utime(file.parent / "new", ns=(OLD_NS, OLD_NS))
    os.replace(file.parent / "new", file)


def replace_by_link(file: Path) -> None:
    file.rename(file.parent / "moved")
    file.symlink_to("moved")


CHANGES: dict[str, Callable[[Path], object]] = {
    "another size": lambda x: (x / "a").write_text("longer"),
    "the same size and another time": lambda x: os.utime(x / "b", ns=(OLD_NS, NEW_NS)),
    "the same size and time": lambda x: (
        (x / "b").write_text("TEXT"),
        os.utime(x / "b", ns=(OLD_NS, OLD_NS)),
    ),
    "another mode of a file": lambda x: (x / "a").chmod(0o600),
    "another mode of a directory": lambda x: x.chmod(0o700),
    "an equal file in its place": lambda x: replace_by_equal_file(x / "a"),
    "a link to it in its place": lambda x: replace_by_link(x / "b"),
    "no file": lambda x: (x / "b").unlink(),
    "another directory in its place": lambda x: (x.rename(x.parent / "y"), x.mkdir()),
}


def test_destinations_that_nothing_touched_are_as_seen(tree: Path) -> None:
    assert is_as_seen(seen(tree)) is True


def test_a_link_is_looked_at_itself_and_not_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    directories = [("", [str(link)])]
    before = Seen(directories, stat_digest(directories), {})
    (tmp_path / "nowhere").write_text("text")
    assert is_as_seen(before) is True


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_destination_is_noticed(tree: Path, change: str) -> None:
    before = seen(tree)
    CHANGES[change](tree / "x")
    assert is_as_seen(before) is False


@pytest.mark.parametrize(
    ("owner", "ids", "expected"),
    [
        ("root:root", (0, 0), True),
        ("root", (0, None), True),
        ("root:root", (1, 0), False),
        ("root:root", (0, 1), False),
        ("no-such-user-here", (0, None), False),
    ],
)
def test_an_owner_whose_ids_have_changed_is_noticed(
    tree: Path, owner: str, ids: tuple[int, int | None], expected: bool
) -> None:
    assert is_as_seen(seen(tree, {owner: ids})) is expected
