"""Make new directories, below `to` and above it.

Each is made in the open directory above it, and changed through its own descriptor. It keeps the
setgid bit that it inherits from the directory above it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.folder_sync import sync_folder
from syncd.mirror.dirfd import DirectoryMissingError, mirror_error, open_subdirectory
from syncd.mirror.metadata import check_folder
from syncd.mirror.permissions import set_mode_and_owner
from syncd.models import Kind, WantedFile
from syncd.safe_open import OPEN_DIR, check_just_made, open_folder


def make_folder(
    folder: int, name: str, path: str, wanted: WantedFile, noted: Callable[[str], None]
) -> int | None:
    """Make `name` in the open `folder` as `wanted` says; return its descriptor.

    None where it exists already. `noted` is called as soon as it is made. A directory that can't be
    finished is removed: it would keep the wrong mode. Raises MirrorError.
    """
    inherits = os.fstat(folder).st_mode & stat.S_ISGID
    try:  # who is no member of the inherited group loses the bit with any later chmod
        os.mkdir(name, wanted.dir_mode if inherits else 0o700, dir_fd=folder)
    except FileExistsError:
        return None
    except OSError as error:
        raise mirror_error("make the folder", path, error) from error
    noted(path)
    try:
        made = open_subdirectory(folder, name, path)
        try:
            check_just_made(made, folder, path)
            finish_folder(made, path, wanted)
        except BaseException:
            os.close(made)
            raise
    except (OSError, MirrorError, DirectoryMissingError) as error:
        with suppress(OSError):  # what went wrong first counts
            os.rmdir(name, dir_fd=folder)
        if not isinstance(error, OSError):
            raise
        raise mirror_error("make the folder", path, error) from error
    return made


def finish_folder(made: int, path: str, wanted: WantedFile) -> None:
    """Give the new folder its owner and mode, inherited bits kept. Raises OSError, MirrorError."""
    set_mode_and_owner(made, replace(wanted, mode=wanted.dir_mode), os.fstat(made).st_mode)
    check_folder(path, wanted.dir_mode, os.fstat(made), wanted.uid, wanted.gid)


def make_parents(
    root: str, entries: Mapping[str, WantedFile], usual_mode: int, made: list[str]
) -> None:
    """Make the folders down to `root` that do not exist, and add them to `made`.

    Everything above `to` is the operator's side, and gets no owner. Raises MirrorError.
    """

    def make(folder: int, name: str, path: str) -> None:
        mode = entries[path].dir_mode if path in entries else usual_mode
        wanted = WantedFile("", mode, Kind.DIRECTORY, dir_mode=mode)
        new = make_folder(folder, name, path, wanted, made.append)
        if new is not None:  # else another job has made it just now, and it is that one's to remove
            os.close(new)
        _sync_names(folder)

    try:
        os.close(open_folder(root, make))
    except OSError as error:
        raise mirror_error("make the folder", root, error) from error


def _sync_names(folder: int) -> None:
    """Sync the names in the folder to disk; `folder` may be open with O_PATH."""
    again = os.open(".", OPEN_DIR, dir_fd=folder)
    try:
        sync_folder(again)
    finally:
        os.close(again)
