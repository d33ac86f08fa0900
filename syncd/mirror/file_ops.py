"""Write, remove and identify one file in an open directory: what a plan's writer is made of."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from syncd.errors import MirrorError
from syncd.git_objects import blob_hasher
from syncd.mirror.scan import stat_of
from syncd.models import Stat, WantedFile

COPY_BYTES = 1 << 20
RETRY_HINT = "run it again; the content will be fetched"


class OtherBytesError(MirrorError):
    """The cache returned other bytes than it was asked for, or none."""


def write_new(
    folder: int, temporary: str, read: Callable[[int], bytes], want: WantedFile, size: int
) -> int:
    """Write a new file in the open `folder` with the wanted bytes, owner and mode.

    Returns its descriptor, for the caller to sync and close. Raises OtherBytesError when what was
    read does not have the wanted id, OSError.
    """
    descriptor = os.open(
        temporary,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=folder,
    )
    try:
        hasher = blob_hasher(size)
        while chunk := read(COPY_BYTES):
            hasher.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
        if hasher.hexdigest() != want.blob:
            raise OtherBytesError(
                f"the cached content of {want.source} does not match its id; nothing was written",
                id="mirror/damaged-cache",
                hint=RETRY_HINT,
            )
        set_owner(descriptor, want)
        os.fchmod(descriptor, want.mode)
    except BaseException:
        with suppress(OSError):  # what went wrong first counts
            os.close(descriptor)
        raise
    return descriptor


def unlink_if_there(folder: int, name: str) -> None:
    """Remove the file if it exists. Raises OSError.

    A read-only file system refuses this also for names that never existed.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        if stat_at(folder, name) is not None:
            raise


def identity_of(folder: int) -> tuple[int, int]:
    """Return device and inode, which identify a directory whatever its name is by now."""
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def stat_at(folder: int, name: str) -> Stat | None:
    """Return what lstat(2) reports for `name` in the open `folder`; None when nothing is there."""
    try:
        return stat_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


def set_owner(descriptor: int, entry: WantedFile) -> None:
    """Give an open file the owner of `entry`, where it names one. Raises OSError."""
    if entry.uid is not None or entry.gid is not None:
        os.fchown(descriptor, chown_id(entry.uid), chown_id(entry.gid))


def chown_id(identity: int | None) -> int:
    """Return the id as chown(2) takes it: -1 leaves it unchanged."""
    return -1 if identity is None else identity


def read_cached(content: BinaryIO, want: WantedFile, limit: int) -> bytes:
    """Read at most `limit` bytes of cached content.

    Raises OtherBytesError where the disk fails.
    """
    try:
        return content.read(limit)
    except OSError as error:
        raise OtherBytesError(
            f"the cached content of {want.source} can't be read: {error.strerror}; "
            "nothing was written",
            id="mirror/unreadable-cache",
            hint=RETRY_HINT,
        ) from error
