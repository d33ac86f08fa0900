"""How long things have been kept, counted by a clock that nobody can set.

The wall clock of a machine may be wrong at boot and may jump by years in both directions. The kernel's
monotonic clock does neither, but begins anew with each boot. So a small file holds how many seconds
were counted so far, and when, by that clock, in which boot. Time in which the machine was off, or that
passed before the first look after a boot, does not count: things are kept longer then, never shorter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4)


class CountedSeconds(Struct, frozen=True):
    """`seconds` were counted when the monotonic clock of `boot` said `monotonic`."""

    seconds: float
    boot: str
    monotonic: float


class CountedTime:
    """Seconds that were counted for one folder. Every process that uses the folder adds to them."""

    def __init__(self, file: Path, monotonic: Callable[[], float], boot: str | None = None) -> None:
        self._file, self._monotonic = file, monotonic
        self._boot = boot if boot is not None else boot_id()

    def seconds(self, if_lost: Callable[[], float]) -> float:
        """How many by now; counted from `if_lost` where the file was lost."""
        last = self._last()
        return (last.seconds if last is not None else if_lost()) + self._passed(last)

    def is_due(self, after_seconds: float) -> bool:
        """Whether nothing was counted in this boot yet, or not for so long."""
        last = self._last()
        same = last is not None and last.boot == self._boot and last.monotonic <= self._monotonic()
        return not same or self._passed(last) >= after_seconds

    def count(self, if_lost: Callable[[], float]) -> float:
        """As `seconds`, and the file says so. Raises OSError."""
        now = CountedSeconds(self.seconds(if_lost), self._boot, self._monotonic())
        write_private(self._file, msgspec.json.encode(now))
        return now.seconds

    def _passed(self, last: CountedSeconds | None) -> float:
        if last is None or not self._boot or last.boot != self._boot:
            return 0.0
        return max(0.0, self._monotonic() - last.monotonic)

    def _last(self) -> CountedSeconds | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=CountedSeconds)
        except (OSError, msgspec.MsgspecError):
            return None


def boot_id() -> str:
    """Which boot of the machine this is; empty where the kernel does not say, and nothing is counted."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def write_private(file: Path, content: bytes) -> None:
    """The file has this content, on disk, and only its owner may read it. Raises OSError."""
    temporary = file.with_name(f".{file.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
    os.rename(temporary, file)
