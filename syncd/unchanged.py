"""What a run that found nothing to do saw of a job, and whether that is still on disk.

The daemon, the full one-shot and its nothing-to-do check (fastpath/check.py) share this decision.
Imports the standard library only, because the check starts with nothing else.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from syncd.owners import user_and_group_ids

Directories = Sequence[
    tuple[str, Sequence[str]]
]  # (absolute path, names in it); "" holds absolute paths


class Seen(NamedTuple):
    """The destinations of one job as lstat(2) shows them, and the ids of its configured owners."""

    directories: Directories
    stat_digest: str
    owners: Mapping[str, Sequence[int | None]]


def directories_of(roots: Mapping[str, str], created: Iterable[str]) -> Directories:
    """Return every directory between a root and its destinations, with the destinations in it.

    `roots` maps each destination to the operator's directory above it; destinations right in a root
    are listed under "", because the root itself is not syncd's. `created` are directories that
    syncd made, also above a root.
    """
    found: dict[str, list[str]] = {directory: [] for directory in created}
    for path, root in roots.items():
        directory = posixpath.dirname(path)
        if directory == root:
            found.setdefault("", []).append(path)
            continue
        found.setdefault(directory, []).append(posixpath.basename(path))
        while (directory := posixpath.dirname(directory)) != root and len(directory) > 1:
            found.setdefault(directory, [])
    return sorted(found.items())


def stat_digest(directories: Directories) -> str:
    """Digest what lstat says of these directories and of the named files in them.

    Raises OSError where one is missing.
    """
    hasher, lstat = hashlib.blake2b(digest_size=16), os.lstat
    for directory, names in directories:
        if directory:
            found = lstat(directory)
            hasher.update(
                b"%d %d %o %d %d\n"
                % (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid)
            )
        for name in names:
            one = lstat(f"{directory}/{name}" if directory else name)
            times = (one.st_size, one.st_mtime_ns, one.st_ctime_ns)
            hasher.update(
                b"%d %d %o %d %d %d %d %d\n"
                % (one.st_dev, one.st_ino, one.st_mode, one.st_uid, one.st_gid, *times)
            )
    return hasher.hexdigest()


def is_as_seen(seen: Seen) -> bool:
    """Return whether the destinations and the owners are still what was seen.

    What is missing is not.
    """
    try:
        same = all(user_and_group_ids(owner) == tuple(ids) for owner, ids in seen.owners.items())
        return same and stat_digest(seen.directories) == seen.stat_digest
    except (OSError, KeyError):
        return False


__all__ = ["Directories", "Seen", "directories_of", "is_as_seen", "stat_digest"]
