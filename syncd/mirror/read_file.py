"""Read a destination's bytes for commands that only look, by the same way down as all others."""

from __future__ import annotations

import io
import os
import posixpath
import stat
from typing import BinaryIO

from syncd.errors import MirrorError
from syncd.mirror.dirfd import DirectoryMissingError, changed_error, mirror_error, opened_directory

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


NOT_PUBLIC = b"\0 not public"  # in the place of bytes that not every user may read


def read_public_file(path: str, root: str, limit: int) -> bytes | None:
    """Return at most `limit` bytes of the regular file at `path`.

    None where it can't be read; NOT_PUBLIC itself for a file that not every user may read.
    """
    try:
        with open_current(path, root) as file:
            if not os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                return NOT_PUBLIC
            return file.read(limit)
    except (OSError, MirrorError, DirectoryMissingError):
        return None


def open_current(path: str, root: str) -> BinaryIO:
    """Open the bytes of the regular file, or the text of the link, that is at `path` now.

    Raises ChangedUnderneathError where it is neither, MirrorError.
    """
    parent, name = posixpath.split(path)
    try:
        with opened_directory(root, parent) as folder:
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return io.BytesIO(os.fsencode(os.readlink(name, dir_fd=folder)))
            descriptor = os.open(name, READ, dir_fd=folder)
    except (DirectoryMissingError, FileNotFoundError) as error:
        raise changed_error(path, f"{path} is gone") from error
    except OSError as error:
        raise mirror_error("read", path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise changed_error(path, f"{path} is no longer a file")
    return open(descriptor, "rb")
