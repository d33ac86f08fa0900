"""Open or make the directories that a plan writes to, and notice a mount that came or went."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from functools import partial

from msgspec import Struct, field

from syncd.errors import ChangedUnderneathError
from syncd.mirror.dirfd import (
    DirectoryMissingError,
    changed_error,
    directory_gone_error,
    mirror_error,
    open_root,
    open_subdirectory,
)
from syncd.mirror.filesystem_sync import FilesystemSync
from syncd.mirror.free_space import nearest_existing_dir
from syncd.mirror.make_directories import make_folder, make_parents
from syncd.mirror.paths import names_below
from syncd.models import WantedFile


class DestinationDirectories(Struct):
    """The directories that one plan writes to.

    `owned` are those that syncd made before. `entries` has mode and owner of those that are made
    now, where they are not those of the first file in them. `devices` is the file system of each
    directory when it was scanned, or of the nearest existing one above it. `unsynced` maps
    directories with new directories in them, whose names may not be on disk yet, to their root.
    """

    owned: frozenset[str]
    entries: Mapping[str, WantedFile]
    devices: Mapping[str, int]
    filesystems: FilesystemSync
    created: list[str] = field(default_factory=list)
    unsynced: dict[str, str] = field(default_factory=dict)

    def open_or_make(self, root: str, path: str, entry: WantedFile) -> int:
        """Open the directory `path` and make those on the way to it that are missing.

        The caller closes the descriptor. Raises MirrorError.
        """
        self.check_same_filesystem(path)
        if not os.path.isdir(root):
            make_parents(root, self.entries, entry.dir_mode, self.created)
        current = self._open_root(root)
        at = root.rstrip("/")
        for name in names_below(path, root) if path != root else ():
            at = f"{at}/{name}"
            try:
                below = self._open_or_make_one(current, name, at, entry)
            finally:
                os.close(current)
            current = below
        try:
            self.check_same_filesystem(path, current)
        except BaseException:
            os.close(current)
            raise
        return self._tracked(current, path)

    def _open_root(self, root: str) -> int:
        """Open the root first: unlike a directory below it, it is not removed meanwhile."""
        try:
            return self._tracked(open_root(root), root)
        except DirectoryMissingError as error:
            raise directory_gone_error(root) from error

    def _tracked(self, folder: int, path: str) -> int:
        """Return the open directory, its file system tracked; close it where that fails."""
        try:
            self.filesystems.track(folder)
        except OSError as error:
            os.close(folder)
            raise mirror_error("write to", path, error) from error
        return folder

    def check_same_filesystem(self, path: str, folder: int | None = None) -> None:
        """Raise ChangedUnderneathError when `path` is on another file system than when scanned.

        `folder` is its descriptor where it is open. A mount came or went meanwhile: nothing may be
        written below it, and nothing that is missing there counts as removed. Raises MirrorError.
        """
        seen = self.devices.get(path)
        if seen is None:
            return
        try:
            found = os.stat(nearest_existing_dir(path)) if folder is None else os.fstat(folder)
        except OSError as error:
            raise mirror_error("inspect", path, error) from error
        if found.st_dev != seen:
            raise _other_filesystem(path)

    def _open_or_make_one(self, folder: int, name: str, path: str, entry: WantedFile) -> int:
        if path in self.entries and path not in self.owned:
            # It did not exist when the plan was made. Its name may not be on disk.
            self.unsynced[posixpath.dirname(path)] = entry.root
        try:
            return open_subdirectory(folder, name, path)
        except DirectoryMissingError:
            pass
        wanted = self.entries.get(path, entry)
        made = make_folder(folder, name, path, wanted, partial(self._record_created, entry.root))
        if made is None:  # another job has just made it, and only that job may remove it
            return open_subdirectory(folder, name, path)
        return made

    def _record_created(self, root: str, path: str) -> None:
        self.created.append(path)
        self.unsynced[posixpath.dirname(path)] = root


def _other_filesystem(path: str) -> ChangedUnderneathError:
    return changed_error(
        path, f"{path} is on another file system than when it was scanned", "mirror/mount-changed"
    )
