"""One file at a time, in an open folder: made with exactly its bytes and looks, taken away, its folder synced. What a batch is made of."""

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
RETRY_HINT = "run it again; it will be fetched anew"


class OtherBytesError(MirrorError):
    """The cache gave other bytes than it was asked for, or none."""


def write_new(
    folder: int, temporary: str, read: Callable[[int], bytes], want: WantedFile, size: int
) -> int:
    """A new file in the open `folder` with exactly the wanted bytes, owner and mode; its descriptor, for the caller to sync and close.

    Raises OtherBytesError when what was read is not what its id says.
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
    """A read-only file system refuses this for names too that were never there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        if stat_at(folder, name) is not None:
            raise


def identity_of(folder: int) -> tuple[int, int]:
    """Device and inode: what is the same folder, whatever it is called by now."""
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def stat_at(folder: int, name: str) -> Stat | None:
    """What lstat says of `name` in the open `folder`; None when nothing is there."""
    try:
        return stat_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


def set_owner(descriptor: int, entry: WantedFile) -> None:
    if entry.uid is not None or entry.gid is not None:
        os.fchown(descriptor, chown_id(entry.uid), chown_id(entry.gid))


def chown_id(identity: int | None) -> int:
    return -1 if identity is None else identity


def read_cached(content: BinaryIO, want: WantedFile, at_most: int) -> bytes:
    """So many bytes of what the cache has. Raises OtherBytesError where the disk can't give them."""
    try:
        return content.read(at_most)
    except OSError as error:
        raise OtherBytesError(
            f"the cached content of {want.source} can't be read: {error.strerror}; nothing was written",
            hint=RETRY_HINT,
        ) from error
