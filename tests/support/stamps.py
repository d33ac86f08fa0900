"""A file system whose clock stands still between two steps, and a kernel clock to go with it.

Every mtime and ctime that the process is told is the step's at which it was first told; so two
changes within one step look the same, whatever the real file system below can do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from syncd.mirror.racy import SECOND_NS, KernelClock

NOON_NS = 1_795_262_400 * SECOND_NS
TICK_NS = 4_000_000
NAMES = ("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
MORE = ("st_blksize", "st_blocks", "st_rdev")


class Stamps:
    """The clock at `now_ns` stamps files with `now_ns` less what is beyond a step.

    `slept` is what syncd waited for.
    """

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.now_ns = NOON_NS + 123_456_789  # no whole second, but where the step makes it one
        self.slept: list[float] = []
        self._told: dict[int, int] = {}
        self._lstat, self._utime = os.lstat, os.utime

    def stamp(self, real_ns: int) -> int:
        """What the file system says instead of `real_ns`."""
        return self._told.setdefault(real_ns, self.now_ns - self.now_ns % self.step_ns)

    def utime(self, *where: Any, ns: tuple[int, int] | None = None, **named: Any) -> None:
        """Set the times of a file: they are told as they are, cut to a coarse clock's step."""
        if ns is None:
            self._utime(*where, **named)
            return
        self._utime(*where, ns=ns, **named)
        self._told[ns[1]] = ns[1] - ns[1] % self.step_ns if self.step_ns >= SECOND_NS else ns[1]

    def rot(self, path: str | os.PathLike[str], content: bytes) -> None:
        """The disk has changed the bytes of a file:
        whoever asks for its stamps is told the old ones.
        """
        before = self._lstat(path)
        with open(path, "r+b") as file:
            assert os.fstat(file.fileno()).st_size == len(content)
            file.write(content)
        self._utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self._told[self._lstat(path).st_ctime_ns] = self._told[before.st_ctime_ns]

    def advance(self, seconds: float) -> None:
        """Time passes; nothing else happens."""
        self.now_ns += round(seconds * SECOND_NS)

    def sleep(self, seconds: float) -> None:
        """As `advance`, for who waits."""
        self.slept.append(seconds)
        self.advance(seconds)


def stamped(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> Stamps:
    """From now on every file's stamps come from the clock that is returned,
    and so does syncd's time.
    """
    stamps = Stamps(step_ns)
    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(os, name, _cut(getattr(os, name), stamps))
    monkeypatch.setattr(os, "utime", stamps.utime)
    monkeypatch.setattr(KernelClock, "now_ns", lambda _: stamps.now_ns)
    monkeypatch.setattr(KernelClock, "monotonic", lambda _: stamps.now_ns / SECOND_NS)
    monkeypatch.setattr(KernelClock, "sleep", lambda _, seconds: stamps.sleep(seconds))
    return stamps


def _cut(real: Callable[..., os.stat_result], stamps: Stamps) -> Callable[..., os.stat_result]:
    def told(*arguments: Any, **named: Any) -> os.stat_result:
        found = real(*arguments, **named)
        mtime, ctime = stamps.stamp(found.st_mtime_ns), stamps.stamp(found.st_ctime_ns)
        seconds = (found.st_atime, mtime / SECOND_NS, ctime / SECOND_NS)
        times = dict(zip(NAMES, (*seconds, found.st_atime_ns, mtime, ctime), strict=True))
        rest = {name: getattr(found, name) for name in MORE}
        return os.stat_result((*found[:7], 0, 0, 0), {**times, **rest})

    return told
