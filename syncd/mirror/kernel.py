"""Two system calls that Python does not wrap: syncfs(2) and renameat2(2) with RENAME_NOREPLACE."""

from __future__ import annotations

import ctypes
import errno
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1


def syncfs(descriptor: int) -> None:
    """Everything written to the file system of `descriptor` is on disk. Raises OSError; since Linux 5.8 also for writeback that failed (syncfs(2))."""
    if _LIBC.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


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
