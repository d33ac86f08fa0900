"""New folders: one below `to`, in the open folder above it, and those above `to`, by path.

A folder keeps the setgid bit that it inherits from the folder above it.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror.files import fsync_folder
from syncd.mirror.folders import Missing, step_down, trouble, unless_another_made
from syncd.mirror.looks import set_looks
from syncd.mirror.metadata import check_folder
from syncd.models import Entry, Kind


def make_folder(
    folder: int, name: str, path: str, looks: Entry, noted: Callable[[str], None]
) -> int | None:
    """Make `name` in the open `folder` as `looks` says; its descriptor, or None where it exists.

    `noted` is called as soon as it exists. A folder that can't be finished is removed: it would
    keep the wrong mode. Raises MirrorError.
    """
    inherits = os.fstat(folder).st_mode & stat.S_ISGID
    try:  # who is no member of the inherited group loses the bit with any later chmod
        os.mkdir(name, looks.dir_mode if inherits else 0o700, dir_fd=folder)
    except FileExistsError:
        return None
    except OSError as error:
        raise trouble("make the folder", path, error) from error
    noted(path)
    try:
        made = step_down(folder, name, path)
        try:
            finish_folder(made, path, looks)
        except BaseException:
            os.close(made)
            raise
    except (OSError, MirrorError, Missing) as error:
        with suppress(OSError):  # what went wrong first counts
            os.rmdir(name, dir_fd=folder)
        if not isinstance(error, OSError):
            raise
        raise trouble("make the folder", path, error) from error
    return made


def finish_folder(made: int, path: str, looks: Entry) -> None:
    """Give the new folder its owner and mode, inherited bits kept. Raises OSError, MirrorError."""
    set_looks(made, replace(looks, mode=looks.dir_mode), os.fstat(made).st_mode)
    check_folder(path, looks.dir_mode, os.fstat(made), looks.uid, looks.gid)


def make_above(
    root: str, looks_of: Mapping[str, Entry], usual_mode: int, made: list[str]
) -> None:
    """Make the folders down to `root` that do not exist, by path, and add them to `made`.

    Everything above `to` is the operator's side, and gets no owner. Raises MirrorError.
    """
    missing = []
    path = root
    while not os.path.isdir(path):
        missing.append(path)
        path = posixpath.dirname(path) or "/"
    for path in reversed(missing):
        mode = looks_of[path].dir_mode if path in looks_of else usual_mode
        try:
            with unless_another_made(path):
                os.mkdir(path, mode)
                made.append(path)
                _finish_at(path, mode)
            fsync_folder(posixpath.dirname(path))
        except OSError as error:
            raise trouble("make the folder", path, error) from error


def _finish_at(path: str, mode: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        finish_folder(folder, path, Entry("", mode, Kind.DIRECTORY, dir_mode=mode))
    finally:
        os.close(folder)
