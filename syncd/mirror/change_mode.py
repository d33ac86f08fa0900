"""Change mode and owner of one file or link; its bytes and their mtime are not touched."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable

from syncd.mirror.attributes import LostAttributes
from syncd.mirror.dirfd import changed_error
from syncd.mirror.expected_state import check_expected, local_after_write
from syncd.mirror.file_ops import chown_id
from syncd.mirror.hard_links import LinkedFile, replace_linked
from syncd.mirror.metadata import check_file
from syncd.mirror.ordering import entry_written
from syncd.mirror.racy import is_racy_after
from syncd.mirror.scan import stat_of
from syncd.models import Action, Kind, LocalFile, WantedFile


def change_mode(
    folder: int, action: Action, temporary: str, now_ns: Callable[[], int], lost: LostAttributes
) -> LocalFile:
    """Give the action's file in the open `folder` the wanted mode and owner; return what it is now.

    A file with several names (hard links) is replaced by a copy, made as `temporary`: another name
    may belong to another user. `now_ns` is the clock that files are stamped with.
    Raises ChangedUnderneathError where it is not what the plan saw, MirrorError, OSError.
    """
    wanted, name = entry_written(action), posixpath.basename(action.path)
    check_expected(folder, name, action, now_ns)
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found, before = os.fstat(descriptor), action.expected
        if before is None or stat_of(found) != before.stat:
            raise changed_error(action.path, f"{action.path} has changed since it was scanned")
        has_other_names = found.st_nlink > 1
        if has_other_names:
            replace_linked(LinkedFile(folder, name, temporary, found), action, lost)
        elif wanted.kind is Kind.LINK:
            ids = chown_id(wanted.uid), chown_id(wanted.gid)
            os.chown(name, *ids, dir_fd=folder, follow_symlinks=False)
        else:
            _set_on_descriptor(descriptor, wanted)
        if has_other_names or wanted.kind is Kind.LINK:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        else:
            found = os.fstat(descriptor)
        check_file(action.path, wanted, found)
    finally:
        os.close(descriptor)
    racy = before.racy or is_racy_after(stat_of(found), before.stat.mtime_ns)
    return local_after_write(wanted, found, racy)


def _set_on_descriptor(descriptor: int, wanted: WantedFile) -> None:
    # The one way to change what an O_PATH descriptor names, whatever its mode.
    handle = f"/proc/self/fd/{descriptor}"
    if wanted.uid is not None or wanted.gid is not None:
        os.chown(handle, chown_id(wanted.uid), chown_id(wanted.gid))
    os.chmod(handle, wanted.mode)
