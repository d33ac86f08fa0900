"""Which names some disk may take for one, and what looking at a folder says of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.colliding_names import CollidingNames, are_distinct, collisions_among, fold, is_same_path

NFC, NFD = "é.conf", "e\u0301.conf"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("README", "readme"),
        ("É", "é"),
        (NFC, NFD),
        ("É.CONF", NFD),
        ("straße", "STRASSE"),
        ("ﬁ", "FI"),
        ("ı", "I"),
        ("\u212a", "k"),
        ("soft\u00adhyphen", "softhyphen"),
        ("a\u200db", "AB"),
        ("\u1fb3", "\u0391\u0399"),
    ],
)
def test_names_that_some_disk_takes_for_one_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("é", "e"), ("a-b", "ab"), ("a.", "a"), ("ü", "u")]
)
def test_names_that_no_disk_takes_for_one_fold_differently(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["/a/x", "/b/x", "/a/y"], []),
        (
            ["/a/README", "/a/Readme"],
            [CollidingNames("/a", {"README": "/a/README", "Readme": "/a/Readme"})],
        ),
        (
            ["/a/Conf/x", "/a/conf/X"],
            [CollidingNames("/a", {"Conf": "/a/Conf/x", "conf": "/a/conf/X"})],
        ),
        (
            ["/a/CONF", "/a/conf/x/y"],
            [CollidingNames("/a", {"CONF": "/a/CONF", "conf": "/a/conf/x/y"})],
        ),
        (
            ["/a/conf/X", "/a/conf/x"],
            [CollidingNames("/a/conf", {"X": "/a/conf/X", "x": "/a/conf/x"})],
        ),
        (["/A/x", "/a/x"], [CollidingNames("/", {"A": "/A/x", "a": "/a/x"})]),
        (
            ["/a/b", "/a/B", "/a/c", "/a/C"],
            [
                CollidingNames("/a", {"B": "/a/B", "b": "/a/b"}),
                CollidingNames("/a", {"C": "/a/C", "c": "/a/c"}),
            ],
        ),
        (
            ["/a/xyz", "/a/Xyz", "/a/XYZ"],
            [CollidingNames("/a", {"XYZ": "/a/XYZ", "Xyz": "/a/Xyz", "xyz": "/a/xyz"})],
        ),
    ],
)
def test_twins_are_names_of_one_folder(paths: list[str], expected: list[CollidingNames]) -> None:
    assert collisions_among(paths) == expected
    assert collisions_among(reversed(paths)) == [
        CollidingNames(one.folder, dict(one.names)) for one in expected
    ]


class FakeFolder:
    """A folder of a file system that keeps names as they are written
    and compares them as `rule` maps them.
    """

    def __init__(self, rule: Callable[[str], str], names: list[str]) -> None:
        self._rule, self._names = rule, names

    def listed(self) -> set[str]:
        return set(self._names)

    def exists(self, name: str) -> bool:
        return self._rule(name) in {self._rule(one) for one in self._names}


def exact(name: str) -> str:
    return name


def ascii_case(name: str) -> str:
    """XFS with version=ci."""
    return "".join(one.lower() if one.isascii() else one for one in name)


def all_case(name: str) -> str:
    """exFAT."""
    return name.upper()


def composed(name: str) -> str:
    """APFS, case-sensitive."""
    return unicodedata.normalize("NFC", name)


TABLE: list[tuple[Callable[[str], str], list[str], list[str], bool | None]] = [
    # both stand, one stands, or another spelling stands
    (exact, ["README", "Readme"], ["README", "Readme"], True),
    (exact, ["README"], ["README", "Readme"], True),
    (exact, ["readme"], ["README", "Readme"], True),
    (exact, [NFC], [NFC, NFD], True),
    (all_case, ["README"], ["README", "Readme"], False),
    (all_case, ["readme"], ["README", "Readme"], False),
    (ascii_case, ["Readme", "other"], ["README", "Readme"], False),
    (composed, [NFD], [NFC, NFD], False),
    (composed, ["README"], ["README", "Readme"], True),
    (ascii_case, ["É"], ["É", "é"], True),
    # none stands: another entry tells of case, if it has letters
    (exact, ["other"], ["README", "Readme"], True),
    (exact, ["1234", "other"], ["README", "Readme"], True),
    (all_case, ["other"], ["README", "Readme"], False),
    (exact, [], ["README", "Readme"], None),
    (exact, ["1234", "ä"], ["README", "Readme"], None),
    (all_case, ["1234"], ["README", "Readme"], None),
    (
        exact,
        ["x", "X"],
        ["README", "Readme"],
        None,
    ),  # each is listed: no look at one tells of the rule
    (exact, ["x", "X", "other"], ["README", "Readme"], True),
    # of composition, and of other letters' case on a disk that ignores ASCII's, no other entry
    # tells
    (exact, ["other"], [NFC, NFD], None),
    (composed, ["other"], [NFC, NFD], None),
    (exact, ["other"], ["É", "é"], True),
    (exact, ["other"], ["straße", "strasse"], True),
    (exact, ["other"], ["ab", "a\u00adb"], None),
    (ascii_case, ["other"], ["É", "é"], None),
    (all_case, ["other"], ["É", "é"], None),
    # more than two
    (exact, ["XYZ"], ["XYZ", "Xyz", "xyz"], True),
    (exact, [NFC], [NFC, NFD, "É.conf"], None),
    (exact, ["XYZ", "Xyz"], ["XYZ", "Xyz", "xyz"], True),
    (exact, ["XYZ", "other"], ["XYZ", "Xyz", "xyz"], True),
    (all_case, ["other"], ["XYZ", "Xyz", "xyz"], False),
]


@pytest.mark.parametrize(("rule", "standing", "names", "expected"), TABLE)
def test_looking_tells_twins_apart_or_together_or_says_that_it_cant(
    rule: Callable[[str], str], standing: list[str], names: list[str], expected: bool | None
) -> None:
    assert are_distinct(FakeFolder(rule, standing), names) is expected
    assert are_distinct(FakeFolder(rule, standing), names[::-1]) is expected


def test_a_twin_that_comes_while_the_folder_is_looked_at_is_not_taken_for_the_other() -> None:
    class Busy(FakeFolder):
        def exists(self, name: str) -> bool:
            self._names = ["README", "Readme"]
            return super().exists(name)

    assert are_distinct(Busy(exact, ["README"]), ["README", "Readme"]) is True


def test_paths_are_apart_on_a_disk_that_tells_case_apart_whether_they_stand_or_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "www").mkdir()
    assert not is_same_path(f"{tmp_path}/www/App", f"{tmp_path}/www/app")
    assert not is_same_path(f"{tmp_path}/WWW/app", f"{tmp_path}/www/app")
