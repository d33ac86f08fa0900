"""Decide whether a stat that is equal later proves that the bytes are equal too.

A file system stamps a change with a clock that moves in steps: the kernel's tick almost everywhere,
a second on ext4 with 128-byte inodes, two seconds on FAT and exFAT. An edit of equal size in the
step of the last change leaves device, inode, size, mtime and ctime as they were. Such a stat is
racy, in git's word (git's Documentation/technical/racy-git.txt), and the ledger keeps it smudged:
the next look reads the bytes again.

Two rules cover the two ways in which bytes become known. After reading them, a stat is racy while
a stamp of it is within the step (`is_racy`). After writing them, a rename or a change of mode
gives the file a new ctime, so its stat would always be racy; there the mtime decides. It is older
than the step, because the writer sets it back by one, or waits where that is not possible. So every
later write changes it (`is_racy_after`). What remains: a program writes within one tick of the
rename and also sets the mtime back to exactly what it was.
"""

from __future__ import annotations

import time

from syncd.models import LocalFile, Stat

SECOND_NS = 1_000_000_000
TICK_NS = 10_000_000  # the longest: CONFIG_HZ=100. A stamp lags the present by up to one tick.
FINE_STEP_NS = (
    2 * TICK_NS
)  # the tick, and up to as much again where stamps are cut to 10 ms (exFAT)
COARSE_STEP_NS = 2 * SECOND_NS + TICK_NS  # the tick, and FAT's two seconds
FINE_STEP_SECONDS = FINE_STEP_NS / SECOND_NS


class KernelClock:
    """The clock that files are stamped with, and waiting for it. Tests give another."""

    def now_ns(self) -> int:
        """Return the nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        time.sleep(seconds)


def is_racy(found: Stat, now_ns: int) -> bool:
    """Return whether a write at `now_ns` or later may leave `found` as it is.

    The bytes are read after `now_ns`. A stamp far in the future is not racy: the clock was set
    back since, and a write now gets another stamp.
    """
    step = COARSE_STEP_NS if is_coarse(found) else FINE_STEP_NS
    return abs(now_ns - found.ctime_ns) <= step or abs(now_ns - found.mtime_ns) <= step


def is_racy_after(found: Stat, mtime_ns: int) -> bool:
    """Return whether a write may leave `found`, the stat after a rename or chmod, as it is.

    `mtime_ns` is the mtime that our bytes had before, older than the step.
    """
    return is_coarse(found) or found.mtime_ns != mtime_ns


def is_coarse(found: Stat) -> bool:
    """Return whether the stamps may be cut to whole seconds."""
    return found.mtime_ns % SECOND_NS == 0 or found.ctime_ns % SECOND_NS == 0


def has_same_bytes(one: LocalFile | None, other: LocalFile | None) -> bool:
    """Return whether both are the same file or link, whatever lstat(2) reports."""
    if one is None or other is None:
        return one is other
    return one.kind is other.kind and one.blob == other.blob
