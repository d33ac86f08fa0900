"""Three system calls that Python does not wrap: syncfs(2), renameat2(2) with RENAME_NOREPLACE, fstatfs(2); and syncs whose success can be believed.

XFS answers success to the sync of a folder for which nothing waits to be written, and so it does where nothing waits because the disk has failed
and the journal was given up: what was done in the folder is lost then. But nothing on such a file system can be opened any more. So the folder is
opened once more after every sync, and what opens then stood on a living file system before. Source: Linux, fs/xfs/xfs_file.c, xfs_dir_fsync and
xfs_dir_open; seen with a file system that was shut down while a run was at work on it.
"""

from __future__ import annotations

import ctypes
import errno
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
_OVERLAY, _STATFS_BYTES = 0x794C7630, 256  # linux/magic.h; more than the structure has anywhere


def syncfs(folder: int) -> None:
    """Everything written to the file system of the open `folder` is on disk. Raises OSError; since Linux 5.8 also for writeback that failed (syncfs(2))."""
    if _LIBC.syncfs(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    _is_alive(folder)


def sync_folder(folder: int) -> None:
    """The names that were made, changed and taken in the open `folder` are on disk. Raises OSError."""
    os.fsync(folder)
    _is_alive(folder)


def is_overlay(folder: int) -> bool:
    """Is the open `folder` on an overlay, as a container's own files are? Raises OSError."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(folder, found) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF == _OVERLAY  # f_type comes first


def _is_alive(folder: int) -> None:
    os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder))


def rename_into_nothing(folder: int, old: str, new: str) -> None:
    """`old` is called `new` now. Raises FileExistsError when something already is; where the file system can't promise that, looks first."""
    renameat2 = getattr(_LIBC, "renameat2", None)
    code = errno.ENOSYS
    if renameat2 is not None:
        if renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), new)
    try:
        os.stat(new, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
