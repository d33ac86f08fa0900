"""Reads a destination's bytes for those who only look, by the same safe way down as everything else."""

from __future__ import annotations

import io
import os
import posixpath
import stat
from typing import BinaryIO

from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.mirror.dirfd import DirectoryMissingError, mirror_error, opened_directory
from syncd.mirror.paths import names_below


def read_file(path: str, root: str, limit: int) -> bytes | None:
    """At most `limit` bytes of the regular file at `path`; None when it can't be read."""
    parent = posixpath.dirname(path)
    try:
        with opened_directory(root, names_below(parent, root) if parent != root else ()) as folder:
            descriptor = os.open(
                posixpath.basename(path),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=folder,
            )
            with open(descriptor, "rb") as file:
                return file.read(limit)
    except (OSError, MirrorError, DirectoryMissingError):
        return None


def open_current(path: str, root: str) -> BinaryIO:
    """The bytes of the regular file, or the text of the link, at `path` now. Raises ChangedUnderneathError where neither stands, MirrorError."""
    parent, name = posixpath.split(path)
    try:
        with opened_directory(root, names_below(parent, root) if parent != root else ()) as folder:
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return io.BytesIO(os.fsencode(os.readlink(name, dir_fd=folder)))
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
    except (DirectoryMissingError, FileNotFoundError) as error:
        raise ChangedUnderneathError(
            f"{path} is gone", path=path, hint="the next run looks again"
        ) from error
    except OSError as error:
        raise mirror_error("read", path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ChangedUnderneathError(
            f"{path} is no file any more", path=path, hint="the next run looks again"
        )
    return open(descriptor, "rb")
