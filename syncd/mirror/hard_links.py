"""Change mode or owner of a file or link that has several names (hard links).

A change in place would also change it under its other names, which may belong to other users. So
the destination gets a new file with the same content; the other names keep what they have.
"""

from __future__ import annotations

import os
from functools import partial
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from syncd.mirror.attributes import LostAttributes, copy_attributes
from syncd.mirror.expected_state import destination_changed_error
from syncd.mirror.file_ops import OtherBytesError, chown_id, unlink_if_there, write_new
from syncd.mirror.scan import stat_of
from syncd.models import Action, Kind, WantedFile

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LinkedFile(Struct, frozen=True):
    """A file or link with several names: `name` in the open `folder`.

    `stat` is what lstat says of it now; its copy is made as `temporary`.
    """

    folder: int
    name: str
    temporary: str
    stat: os.stat_result


def replace_linked(linked: LinkedFile, action: Action, lost: LostAttributes) -> None:
    """Make it a new file with the wanted mode and owner, on disk.

    Times, attributes and an owner that is not configured stay. Raises ChangedUnderneathError,
    OSError.
    """
    folder, name, temporary = linked.folder, linked.name, linked.temporary
    try:
        if action.wanted is not None and action.wanted.kind is Kind.LINK:
            _copy_link(linked, action.wanted)
        elif action.wanted is not None:
            _copy_file(linked, action.wanted, lost)
        if stat_of(os.stat(name, dir_fd=folder, follow_symlinks=False)) != stat_of(linked.stat):
            raise destination_changed_error(action.path)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OtherBytesError as error:
        raise destination_changed_error(action.path) from error
    finally:
        unlink_if_there(folder, temporary)


def _copy_file(linked: LinkedFile, want: WantedFile, lost: LostAttributes) -> None:
    """Copy the file with its times and attributes."""
    found = linked.stat
    with open(os.open(linked.name, READ, dir_fd=linked.folder), "rb") as old:
        wanted = _with_owner(want, found)
        read = partial(_at_most, old, found.st_size)
        new = write_new(linked.folder, linked.temporary, read, wanted, found.st_size)
        try:
            copy_attributes(old.fileno(), new, want.mode, linked.name, lost)
            os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(new)
        finally:
            os.close(new)


def _at_most(old: BinaryIO, size: int, count: int) -> bytes:
    """Return the next bytes; one past `size` is enough to see that it has grown."""
    return old.read(min(count, max(0, size + 1 - old.tell())))


def _copy_link(linked: LinkedFile, want: WantedFile) -> None:
    folder, temporary, found = linked.folder, linked.temporary, linked.stat
    os.symlink(os.readlink(linked.name, dir_fd=folder), temporary, dir_fd=folder)
    wanted = _with_owner(want, found)
    if wanted.uid is not None or wanted.gid is not None:
        ids = chown_id(wanted.uid), chown_id(wanted.gid)
        os.chown(temporary, *ids, dir_fd=folder, follow_symlinks=False)
    stamps = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(temporary, ns=stamps, dir_fd=folder, follow_symlinks=False)


def _with_owner(want: WantedFile, found: os.stat_result) -> WantedFile:
    """Return what is wanted; an owner that is not configured stays, where this user may set it."""
    if os.geteuid() != 0:
        return want
    uid = found.st_uid if want.uid is None else want.uid
    return replace(want, uid=uid, gid=found.st_gid if want.gid is None else want.gid)
