"""Call syncfs(2), renameat2(2) and fstatfs(2), which Python does not wrap."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from syncd.folder_sync import check_alive

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
# File systems whose syncfs reaches the disk and reports what it lost: ext, XFS, btrfs, f2fs, ZFS,
# bcachefs, JFS, NFS, and memory. Source: linux/magic.h
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
    """Sync everything written to the file system of the open `folder` to disk.

    Raises OSError; since Linux 5.8 also for writeback that failed (syncfs(2)).
    """
    if _LIBC.syncfs(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    check_alive(folder)


def hides_write_errors(folder: int) -> bool:
    """Return whether syncfs on `folder` may miss its disk or hide what was lost.

    Files there are synced one by one. So it is on an overlay, as a container's own files are, and
    on FUSE (seen on Linux 6.18); and on any file system that is not known to report errors, or that
    can't be identified.
    """
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(folder, found) != 0:
        return True  # also where, on 32 bits, its numbers are too large for the structure
    kinds = {
        int.from_bytes(found.raw[at : at + 4], sys.byteorder) for at in (0, 4)
    }  # f_type comes first: four bytes, or eight in either order
    return not kinds & _REPORTING_FILESYSTEMS


def rename_noreplace(folder: int, old: str, new: str) -> None:
    """Rename `old` to `new` in the open `folder` unless `new` exists.

    Raises FileExistsError when it does. Where the file system can't guarantee that, it is checked
    before the rename.
    """
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
