"""Small operations on the trees of `publish: symlink` and on the folder that holds them."""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from syncd.errors import UnsafePathError
from syncd.mirror.dirfd import TREE_NAME
from syncd.mirror.scan import scan_directory, stat_of
from syncd.mirror.temp_names import TEMP_PREFIX
from syncd.mirror.tree_copy import list_names
from syncd.models import LocalFile, Stat
from syncd.safe_open import open_folder
from syncd.tree_walk import remove, time_limit

MAX_NAMES_SHOWN = 3
REMOVE_TIMEOUT_SECONDS = 600.0  # for one tree; what is left by then is removed by the next run
STAMP_FORMAT = "%Y%m%dT%H%M%S"


def check_only_own_entries(parent: int, link: str, job: str) -> None:
    """Raise UnsafePathError where the open directory of the link, `parent`, holds other things."""
    folder, own = posixpath.split(link)
    names = (
        name for name in list_names(parent) if name != own and not name.startswith(TEMP_PREFIX)
    )
    others = sorted(name for name in names if not TREE_NAME.match(name))
    if not others:
        return
    more = f" and {len(others) - MAX_NAMES_SHOWN} more" if len(others) > MAX_NAMES_SHOWN else ""
    raise UnsafePathError(
        f"{folder} holds {', '.join(others[:MAX_NAMES_SHOWN])}{more}; "
        "with publish: symlink the folder above the link is syncd's own",
        id="mirror/foreign-entries",
        path=folder,
        hint=f"give the link a folder of its own, like to: {folder}/{job}/current/,"
        " or move the rest away",
    )


def stamp_of_new_tree(parent: int, now: datetime) -> str:
    """Return the time stamp of a new tree.

    It is later than that of every existing tree, so that names sort by age whatever the clock does.
    """
    newest = max(
        (found.group(1) for found in map(TREE_NAME.match, list_names(parent)) if found is not None),
        default="",
    )
    stamp = now.strftime(STAMP_FORMAT)
    if stamp > newest:
        return stamp
    with suppress(ValueError, OverflowError):  # a name like ours that is not a time
        return (
            datetime.strptime(newest, STAMP_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)
        ).strftime(STAMP_FORMAT)
    return stamp


def remove_tree(parent: int, name: str) -> None:
    """Remove a tree through descriptors, following no link, however deep it is. Raises OSError."""
    remove(parent, name, time_limit(REMOVE_TIMEOUT_SECONDS))


def is_directory(parent: int, name: str) -> bool:
    """Return whether `name` in the open `parent` is a directory, and no link. Raises OSError."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def is_directory_gone(path: str) -> bool:
    """Return whether there is certainly no directory any more."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def directory_at(path: str) -> LocalFile | None:
    """Return what the mirror's scan finds for a directory. Raises OSError, UnsafePathError."""
    above = open_folder(posixpath.dirname(path))
    try:
        return scan_directory(above, posixpath.basename(path), path, os.fstat(above).st_dev)
    finally:
        os.close(above)


def stat_at_path(path: str) -> Stat | None:
    """Return what lstat(2) reports for the path, or None when nothing is there. Raises OSError."""
    try:
        return stat_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
