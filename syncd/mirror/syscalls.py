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
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
# File systems whose syncfs reaches the disk and tells what it lost: ext, XFS, btrfs, f2fs, ZFS, bcachefs, JFS, NFS, and memory. linux/magic.h
_REPORTING_FILESYSTEMS = {
    0xEF53,
    0x58465342,
    0x9123683E,
    0xF2F52010,
    0x2FC12FC1,
    0xCA451A4E,
    0x3153464A,
    0x6969,
    0x01021994,
    0x858458F6,
}
_STATFS_BYTES = 256  # more than the structure has anywhere


def syncfs(folder: int) -> None:
    """Everything written to the file system of the open `folder` is on disk. Raises OSError; since Linux 5.8 also for writeback that failed (syncfs(2))."""
    if _LIBC.syncfs(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    _check_alive(folder)


def sync_folder(folder: int) -> None:
    """The names that were made, changed and taken in the open `folder` are on disk. Raises OSError."""
    os.fsync(folder)
    _check_alive(folder)


def hides_write_errors(folder: int) -> bool:
    """May syncfs on the open `folder` not reach the disk behind it, or not tell what that lost? Files there are to be synced each.

    So on an overlay, as a container's own files are, and on FUSE (seen on Linux 6.18); and on whatever is not known to do it, or can't say what it is.
    """
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(folder, found) != 0:
        return True  # also where, on 32 bits, its numbers are too large for the structure
    kinds = {
        int.from_bytes(found.raw[at : at + 4], sys.byteorder) for at in (0, 4)
    }  # f_type comes first: four bytes, or eight in either order
    return not kinds & _REPORTING_FILESYSTEMS


def _check_alive(folder: int) -> None:
    os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder))


def rename_noreplace(folder: int, old: str, new: str) -> None:
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
