"""The places on disk that a commit can never change, and whether a path leads to one of them.

A value: real paths, each with what it is in words. `config/protected.py` builds it from the
configuration and the installation; `config/cross_checks.py` asks it about the rules at check time,
`engine/protection.py` about the destinations of a run. Only `identity_of` reads the disk: what a
path leads to is passed in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

from msgspec import Struct, field

from syncd.colliding_names import fold
from syncd.patterns import escape_pattern

Identity = tuple[int, int]  # st_dev, st_ino
PROBE_NAME = "probe"  # any name below a protected folder


class ProtectedPlace(Struct, frozen=True):
    """One protected file, or a directory with everything below it. `path` is a real path.

    `at_check`: a folder rule above it is already a mistake at check time, unless its patterns leave
    the place out. The others are places that hardly ever exist; a commit is refused when it wants
    one.
    """

    path: str
    what: str
    is_folder: bool = False
    at_check: bool = True


class ProtectedNames(Struct, frozen=True):
    """Protected names in a shared directory, and everything below them.

    They begin with `prefix`, or are one of `names`. With `suffixes`, also each file with one of
    these suffixes, and each directory with a file `__init__` of such a suffix: what Python would
    import from this directory.
    """

    folder: str
    what: str
    prefix: str = ""
    names: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    at_check: bool = True

    def protects(self, name: str, below: str) -> bool:
        """Return whether the directory's entry `name` (folded) is protected.

        `below` is the path from there on, or empty.
        """
        if (self.prefix and name.startswith(self.prefix)) or name in self.names:
            return True
        return (
            below.removeprefix("__init__") in self.suffixes
            if below
            else name.endswith(self.suffixes)
        )


class Probe(Struct, frozen=True):
    """How to find out whether a folder rule reaches something protected.

    `paths` that a commit could have, the `place` that they are in, and the `pattern` that excludes
    it. All of these are absolute.
    """

    place: ProtectedPlace
    paths: tuple[str, ...]
    pattern: str


class ProtectedPaths(Struct, frozen=True, dict=True):
    """Everything protected.

    `identities`: device and inode of each protected directory, and of each directory above a
    protected place, with its real path.
    """

    places: tuple[ProtectedPlace, ...] = ()
    names: tuple[ProtectedNames, ...] = ()
    identities: Mapping[Identity, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.places or self.names)

    def find(self, path: str) -> ProtectedPlace | None:
        """Return the protected place that the real path is, lies in, or is above, or None.

        Case is ignored.
        """
        return self.containing(path) or self._above.get(fold(path))

    def containing(self, path: str) -> ProtectedPlace | None:
        """Return the protected place that the real path is or lies in, or None. Case is ignored."""
        folded = fold(path)
        return self._exact.get(folded) or self._containing(folded)

    def near(self, folder: str) -> bool:
        """Return whether `find` can have an answer for any path right in this real directory.

        Much faster, for many paths.
        """
        folded = fold(folder)
        return (
            folded == "/"
            or folded in self._above
            or any(path in self._starts for path in (folded, *directories_above(folded)))
        )

    def probes(self) -> Iterator[Probe]:
        """Yield what to try a folder rule with, for each place that is checked with the
        configuration.
        """
        for place in self.places:
            if place.at_check:
                yield _probe(self._outermost(place), place)
        for names in self.names:
            if names.at_check:
                yield from _name_probes(names)

    def _outermost(self, place: ProtectedPlace) -> ProtectedPlace:
        """Return the largest protected directory around the place, to exclude instead of it."""
        for path in reversed(list(directories_above(place.path))):
            outer = self._exact.get(fold(path))
            if outer is not None and outer.is_folder:
                return outer
        return place

    def _containing(self, folded: str) -> ProtectedPlace | None:
        below, path = "", folded
        while len(path) > 1:
            place = self._exact.get(path)
            if place is not None and place.is_folder:
                return place
            path, _, name = path.rpartition("/")
            for names in self._names.get(path, ()):
                if names.protects(name, below):
                    return ProtectedPlace(
                        f"{names.folder}/{name}", names.what, bool(below), names.at_check
                    )
            below = f"{name}/{below}" if below else name
        return None

    @cached_property
    def _exact(self) -> dict[str, ProtectedPlace]:
        found: dict[str, ProtectedPlace] = {}
        for place in sorted(self.places, key=lambda place: not place.is_folder):
            found.setdefault(fold(place.path), place)
        return found

    @cached_property
    def _names(self) -> dict[str, list[ProtectedNames]]:
        found: dict[str, list[ProtectedNames]] = {}
        for names in self.names:
            found.setdefault(fold(names.folder), []).append(names)
        return found

    @cached_property
    def _starts(self) -> frozenset[str]:
        return frozenset(self._exact.keys() | self._names.keys())

    @cached_property
    def _above(self) -> dict[str, ProtectedPlace]:
        """Return each path above a protected place, and each directory of protected names.

        A file or link there would replace it.
        """
        found: dict[str, ProtectedPlace] = {}
        for place in self.places:
            for path in directories_above(fold(place.path)):
                found.setdefault(path, place)
        for names in self.names:
            place = ProtectedPlace(names.folder, names.what, True, names.at_check)
            for path in (fold(names.folder), *directories_above(fold(names.folder))):
                found.setdefault(path, place)
        return found


def _probe(excluded: ProtectedPlace, place: ProtectedPlace) -> Probe:
    paths = (f"{place.path}/", f"{place.path}/{PROBE_NAME}") if place.is_folder else (place.path,)
    return Probe(excluded, paths, _pattern(excluded))


def _pattern(place: ProtectedPlace) -> str:
    return escape_pattern(place.path) + ("/" if place.is_folder else "")


def _name_probes(names: ProtectedNames) -> Iterator[Probe]:
    place, prefix = ProtectedPlace(names.folder, names.what, True), names.prefix
    if prefix:
        tries = (
            f"{prefix}.service",
            f"{prefix}.timer",
            f"{prefix}.service/",
            f"{prefix}.service/{PROBE_NAME}",
            f"{prefix}.service.d/",
            f"{prefix}.service.d/{PROBE_NAME}.conf",
        )
        yield Probe(
            place,
            tuple(f"{names.folder}/{name}" for name in tries),
            f"{escape_pattern(names.folder)}/{escape_pattern(prefix)}*",
        )
    for name in names.names:
        folder = f"{names.folder}/{name}"
        yield Probe(
            place, (f"{folder}/", f"{folder}/{PROBE_NAME}.conf"), f"{escape_pattern(folder)}/"
        )


def directories_above(path: str) -> Iterator[str]:
    """Yield every directory above the absolute path but `/`, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def canonical(
    path: str, identities: Mapping[Identity, str], identity_of: Callable[[str], Identity | None]
) -> str:
    """Return the path below the real directory that it leads to by another name.

    A bind mount gives another name; where there is none, it is the path itself. `identity_of` gives
    device and inode of a directory, or None where there is none.
    """
    for folder in (path, *directories_above(path)):
        identity = identity_of(folder)
        real = identities.get(identity) if identity is not None else None
        if real is not None:
            return (real.rstrip("/") + path[len(folder) :]) or "/"
    return path


def with_parents(paths: Iterable[str]) -> set[str]:
    """Return the paths and every directory above them."""
    found: set[str] = set()
    for path in paths:
        found.add(path)
        for folder in directories_above(path):
            if folder in found:
                break
            found.add(folder)
    return found


def identity_of(folder: str) -> Identity | None:
    """Return device and inode of the directory that the path leads to, or None."""
    try:
        found = os.stat(folder)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None
