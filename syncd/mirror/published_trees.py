"""Small operations on the trees of `publish: symlink` and on the folder that holds them."""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from syncd.errors import UnsafePathError
from syncd.mirror.cleanup import TEMP_PREFIX
from syncd.mirror.dirfd import TREE_NAME
from syncd.mirror.scan import scan_directory, stat_of
from syncd.mirror.tree_copy import list_names
from syncd.models import LocalFile, Stat
from syncd.safe_open import open_folder
from syncd.tree_walk import remove, time_limit

MAX_NAMES_SHOWN = 3
REMOVE_TIMEOUT_SECONDS = 600.0  # for one tree; what is left by then is removed by the next run
STAMP_FORMAT = "%Y%m%dT%H%M%S"


def check_only_own_entries(parent: int, link: str, job: str) -> None:
    """Raises UnsafePathError where the folder of the link, open as `parent`, holds other things."""
    folder, own = posixpath.split(link)
    names = (
        name for name in list_names(parent) if name != own and not name.startswith(TEMP_PREFIX)
    )
    others = sorted(name for name in names if not TREE_NAME.match(name))
    if not others:
        return
    more = f" and {len(others) - MAX_NAMES_SHOWN} more" if len(others) > MAX_NAMES_SHOWN else ""
    raise UnsafePathError(
        f"{folder} holds {', '.join(others[:MAX_NAMES_SHOWN])}{more}; with publish: symlink the folder above"
        " the link is syncd's own",
        path=folder,
        hint=f"give the link a folder of its own, like to: {folder}/{job}/current/,"
        " or move the rest away",
    )


def stamp_of_new_tree(parent: int, now: datetime) -> str:
    """When the new tree is made; later than every tree that stands, so that names sort by age whatever the clock does."""
    newest = max(
        (found.group(1) for found in map(TREE_NAME.match, list_names(parent)) if found is not None),
        default="",
    )
    stamp = now.strftime(STAMP_FORMAT)
    if stamp > newest:
        return stamp
    with suppress(ValueError, OverflowError):  # a name that looks like ours and is no time at all
        return (
            datetime.strptime(newest, STAMP_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)
        ).strftime(STAMP_FORMAT)
    return stamp


def remove_tree(parent: int, name: str) -> None:
    """Through descriptors, following no link, however deep it is. Raises OSError."""
    remove(parent, name, time_limit(REMOVE_TIMEOUT_SECONDS))


def is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def is_gone(path: str) -> bool:
    """Is there certainly no folder any more?"""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def directory_at(path: str) -> LocalFile | None:
    """What the mirror's scan says of a folder."""
    above = open_folder(posixpath.dirname(path))
    try:
        return scan_directory(above, posixpath.basename(path), path, os.fstat(above).st_dev)
    finally:
        os.close(above)


def stat_at_path(path: str) -> Stat | None:
    try:
        return stat_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
