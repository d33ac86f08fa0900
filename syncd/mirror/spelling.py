"""Find whether two paths name one directory entry, and how the disk itself spells a name.

It only reads, by path. A wrong "the same" leaves a file where it is; the writer compares inodes
again before it removes anything.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
from collections.abc import Iterable
from contextlib import suppress

from syncd.colliding_names import case_swapped, fold
from syncd.mirror.dirfd import mirror_error
from syncd.mirror.free_space import nearest_existing_dir
from syncd.models import RealFolder

MAX_NAMES_CHECKED = 20  # entries of a folder that are looked at, to find whether it ignores case


def resolve(folders: Iterable[str]) -> dict[str, RealFolder]:
    """Return where each directory really is; what does not exist is taken as it is written.

    Raises MirrorError where the disk can't say: a path that is not resolved names another file.
    """
    return {folder: _real_folder(folder) for folder in folders}


def _real_folder(folder: str) -> RealFolder:
    path = _resolved(folder)
    try:
        place = nearest_existing_dir(path)
        if not _ignores_case(place):
            return RealFolder(path)
        top = _mount_point(place)
    except OSError as error:
        raise mirror_error("resolve", path, error) from error
    return RealFolder(top.rstrip("/") + fold(path[len(top.rstrip("/")) :]), ignores_case=True)


def _ignores_case(place: str) -> bool:
    """Return whether names here are found in another case too, by its entries or its own name."""
    answer = _ignores_case_by_entries(place)
    while answer is None and not os.path.ismount(place):
        place, name = posixpath.split(place)
        answer = _ignores_case_by_entry(place, name)
    return bool(answer)


def _ignores_case_by_entries(place: str) -> bool | None:
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAX_NAMES_CHECKED)]
    except PermissionError:
        return None
    return next(
        (answer for name in names if (answer := _ignores_case_by_entry(place, name)) is not None),
        None,
    )


def _ignores_case_by_entry(folder: str, name: str) -> bool | None:
    """Return whether this entry is found with its case swapped and is not another entry.

    None where it does not show.
    """
    swapped = case_swapped(name)
    if swapped == name:
        return None
    if not _exists(posixpath.join(folder, swapped)):
        return False
    names = _names_in(folder)
    return None if not names or swapped in names else True


def _mount_point(place: str) -> str:
    while not os.path.ismount(place):
        place = posixpath.dirname(place)
    return place


def _resolved(path: str) -> str:
    missing: list[str] = []
    while True:
        try:
            return posixpath.join(os.path.realpath(path, strict=True), *reversed(missing))
        except (FileNotFoundError, NotADirectoryError):
            parent, name = posixpath.split(path)
            if parent == path or os.path.islink(path):  # a link that leads nowhere yet
                return posixpath.join(os.path.realpath(path), *reversed(missing))
            missing.append(name)
            path = parent
        except RecursionError:  # links to links; the kernel follows at most 40
            raise mirror_error(
                "resolve", path, OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            ) from None
        except OSError as error:
            raise mirror_error("resolve", path, error) from error


def is_same_file(one: str, other: str) -> bool:
    """Return whether the two paths are one entry of one directory; two hard links are two.

    Raises OSError where the disk can't say.
    """
    names: list[tuple[str, str, str]] = []  # from the last one up: folder, name, other name
    while one != other:
        (parent, name), (other_parent, other_name) = posixpath.split(one), posixpath.split(other)
        names.append((parent, name, other_name))
        same = _same_folder(parent, other_parent)
        if same is not None:
            if not same:
                return False
            break
        one, other = parent, other_parent
    return all(
        name == other_name or _one_entry(parent, name, other_name)
        for parent, name, other_name in reversed(names)
    )


def other_spellings(paths: Iterable[str]) -> dict[str, str]:
    """Return how its directory spells each path, for entries that exist under another spelling."""
    listings: dict[str, frozenset[str]] = {}
    found = {}
    for path in paths:
        parent, name = posixpath.split(path)
        if parent not in listings:
            listings[parent] = frozenset(_names_in(parent))
        if name not in listings[parent] and _exists(path):
            for spelled in sorted(listings[parent]):
                if fold(spelled) == fold(name):
                    found[path] = posixpath.join(parent, spelled)
    return found


def _same_folder(one: str, other: str) -> bool | None:
    """Return None where the directories above and their names have to be compared."""
    if one == other:
        return True
    with suppress(FileNotFoundError, NotADirectoryError):
        if os.path.samefile(one, other):
            return True
    if fold(one) != fold(other) or "/" in (one, other):
        return False
    return None  # a file system without stable inodes, such as FUSE


def _one_entry(parent: str, name: str, other: str) -> bool:
    names = _names_in(parent)
    if name in names and other in names:
        return False
    return all(_exists(posixpath.join(parent, one)) for one in (name, other))


def _exists(path: str) -> bool:
    """Return whether anything is there. Raises OSError where the disk can't say."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []  # not there, or not to be listed by us: then no listing distinguishes names


__all__ = ["is_same_file", "other_spellings", "resolve"]
