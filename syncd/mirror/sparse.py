"""Copy a file's bytes but not its holes, so that the copy of a sparse file does not grow.

Source: lseek(2), SEEK_DATA and SEEK_HOLE; copy_file_range(2).
"""

from __future__ import annotations

import errno
import os

COPY_BYTES = 1 << 20
MAX_RANGE_BYTES = 1 << 30


def copy_sparse(reading: int, writing: int, size: int) -> None:
    """Copy at most `size` bytes of one open file to another, empty one; its holes stay holes.

    What was appended meanwhile is left out. Raises OSError.
    """
    at = 0
    while at < size:
        start, end = _next_data(reading, at, size)
        _copy_range(reading, writing, start, end)
        at = end
    os.ftruncate(writing, min(size, os.fstat(reading).st_size))


def _next_data(reading: int, at: int, size: int) -> tuple[int, int]:
    """Return where the next bytes outside a hole begin and end.

    After the last it is the end of the file, twice.
    """
    try:
        start = os.lseek(reading, at, os.SEEK_DATA)
        return min(start, size), min(os.lseek(reading, start, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return at, size  # a file system that knows no holes


def _copy_range(reading: int, writing: int, start: int, end: int) -> None:
    at = start
    try:
        while at < end:
            done = os.copy_file_range(reading, writing, min(end - at, MAX_RANGE_BYTES), at, at)
            if not done:
                return  # it has become shorter
            at += done
    except OSError:  # not on this kernel, or across file systems
        _copy_by_reading(reading, writing, at, end)


def _copy_by_reading(reading: int, writing: int, start: int, end: int) -> None:
    at = start
    while at < end:
        chunk = os.pread(reading, min(COPY_BYTES, end - at), at)
        if not chunk:
            return
        view = memoryview(chunk)
        while view:
            written = os.pwrite(writing, view, at)
            view, at = view[written:], at + written
