"""Advisory locks on files, by flock(2).

The kernel releases a lock when its descriptor is closed or its process ends, so there are no stale
locks. Standard library only, because the nothing-to-do check (fastpath/check.py) uses it too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress


def acquire(
    file: str | os.PathLike[str], *, shared: bool = False, wait: bool = False, create: bool = True
) -> int:
    """Open the file and lock it; return the descriptor, which holds the lock until `release`.

    Without `create`, the file has to exist. Raises BlockingIOError when another process has the
    lock and `wait` is false, and OSError when the file cannot be opened or locked.
    """
    access = os.O_RDONLY if shared and not create else os.O_RDWR
    flags = access | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    descriptor = os.open(file, flags, 0o600)
    try:
        lock_descriptor(descriptor, shared=shared, wait=wait)
    except BaseException:
        release(descriptor)
        raise
    return descriptor


def acquire_polling(file: str | os.PathLike[str], pause: Callable[[], None]) -> int:
    """Lock the file as `acquire` does, calling `pause` after each attempt that finds it locked.

    Raises OSError, and what `pause` raises to give up.
    """
    while True:
        try:
            return acquire(file)
        except BlockingIOError:
            pause()


def lock_descriptor(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file. Raises BlockingIOError when another process has the lock, OSError."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)


def release(descriptor: int) -> None:
    """Close the descriptor and with it release the lock, which close(2) does even where it reports
    an error.
    """
    with suppress(OSError):
        os.close(descriptor)


__all__ = ["acquire", "acquire_polling", "lock_descriptor", "release"]
