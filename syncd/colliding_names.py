"""Names that some file systems take for one: find them, and ask a directory whether it keeps them
apart.

Which names fold to one depends on the file system, and on ext4 even on the directory. So `fold`
takes more names for equal than any one file system does, and the disk decides. Nothing here writes.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

# Letters that ext4 (casefold) and HFS+ leave out of a comparison.
# Source: Unicode 15, DerivedCoreProperties.txt, Default_Ignorable_Code_Point
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_SWAPPED = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
)


class CollidingNames(Struct, frozen=True):
    """Names in one directory that fold to one name, each with a destination that it is or leads
    to.
    """

    folder: str
    names: Mapping[str, str]


def fold(text: str) -> str:
    """Return the text as the least strict file system compares it: no case, composition or ignored
    letters.
    """
    if text.isascii():
        return text.lower()
    return _plain(_plain(text).upper().casefold())


def case_swapped(name: str) -> str:
    """Return the name with the case of its ASCII letters swapped."""
    return name.translate(_SWAPPED)


def collisions_among(paths: Iterable[str]) -> list[CollidingNames]:
    """Return all colliding names among the paths and the directories above them, in order."""
    places: dict[str, str] = {}
    for path in paths:
        place = path
        while len(place) > 1 and place not in places:
            places[place] = path
            place = place.rpartition("/")[0]
    if len({fold(place) for place in places}) == len(places):
        return []
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for place in sorted(places):
        folder, name = posixpath.split(place)
        groups.setdefault((folder, fold(name)), {})[name] = places[place]
    return [
        CollidingNames(folder, names) for (folder, _), names in groups.items() if len(names) > 1
    ]


class DirectoryNames(Protocol):
    """The names that a directory answers to."""

    def listed(self) -> set[str]:
        """Return the names in it. Raises OSError."""

    def exists(self, name: str) -> bool:
        """Return whether anything answers to the name. Raises OSError."""


class OpenDirectory(Struct, frozen=True):
    """A directory of the disk by its open descriptor."""

    descriptor: int

    def listed(self) -> set[str]:
        """Return the names in it. Raises OSError."""
        return set(os.listdir(self.descriptor))

    def exists(self, name: str) -> bool:
        """Return whether anything answers to the name. Raises OSError."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def are_distinct(folder: DirectoryNames, names: Sequence[str]) -> bool | None:
    """Return whether the directory keeps each of these names apart; None where looking does not
    show it.

    A name that is found without being listed is there under another spelling. Where none of the
    names exists, any other entry shows it: is it found, too, with the case of its letters swapped?
    Raises OSError.
    """
    listed = folder.listed()
    found = {name for name in names if folder.exists(name)}
    hidden = found - listed
    if hidden and len(found) > 1:
        hidden -= folder.listed()  # one that has come since the first listing is not hidden
        if hidden:
            return False
    if len(names) - len(found) <= 1:
        return True
    return _distinct_by_others(folder, listed, names)


def is_same_path(one: str, other: str) -> bool:
    """Return whether two paths of equal fold lead to one place, by the directories' own rules.

    False where they are apart, or where looking does not show it.
    """
    folder = "/"
    for name, twin in zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False):
        if name != twin and _distinct_in(folder, (name, twin)) is not False:
            return False
        folder = posixpath.join(folder, name)
    return fold(one) == fold(other)


def _distinct_in(folder: str, names: Sequence[str]) -> bool | None:
    """Return `are_distinct` of the directory, or of the deepest one above it that exists."""
    while not os.path.isdir(folder):
        folder = posixpath.dirname(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return are_distinct(OpenDirectory(descriptor), names)
        finally:
            os.close(descriptor)
    except OSError:
        return None  # a directory that may not be read shows nothing


def _distinct_by_others(
    folder: DirectoryNames, listed: set[str], names: Sequence[str]
) -> bool | None:
    folds = _folds_case(folder, listed)
    if folds is False and len({_plain(name) for name in names}) == len(names):
        return True  # no rule of case makes them one, and no rule of composition
    if folds and len({_ascii_lower(name) for name in names}) < len(names):
        return False  # of other letters than ASCII's, some disks ignore the case of none
    return None


def _folds_case(folder: DirectoryNames, listed: set[str]) -> bool | None:
    """Return whether the directory ignores the case of ASCII letters; None where no entry shows
    it.
    """
    for name in sorted(listed):
        swapped = case_swapped(name)
        if swapped != name and swapped not in listed:
            return folder.exists(swapped)
    return None


def _plain(text: str) -> str:
    return _IGNORED.sub("", unicodedata.normalize("NFKD", text))


def _ascii_lower(name: str) -> str:
    return "".join(one.lower() if one.isascii() else one for one in name)


__all__ = [
    "CollidingNames",
    "DirectoryNames",
    "OpenDirectory",
    "are_distinct",
    "collisions_among",
    "fold",
    "is_same_path",
]
