"""Keep the process small: return freed memory to the system, and limit the number of heaps.

Reading a configuration of a thousand jobs takes tens of megabytes for a moment, and glibc gives
every thread a heap of its own: a daemon would keep for months what it needed once. Nothing depends
on it; another C library is left alone.

Source: mallopt(3) (M_ARENA_MAX), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import gc

M_ARENA_MAX = -8
MAX_ARENAS = 2
GC_THRESHOLD = (
    700,
    10,
    10,
)  # Python's own; a command that ends soon has looked for rings of objects less often


def tune_malloc() -> None:
    """Limit the heaps of threads that start later, and collect reference cycles early."""
    gc.set_threshold(*GC_THRESHOLD)
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_ARENA_MAX, MAX_ARENAS)


def trim_heap() -> None:
    """Return free memory to the system."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


__all__ = ["trim_heap", "tune_malloc"]
