"""Count how long things have been kept, by a clock that cannot be set.

The wall clock of a machine may be wrong at boot and may jump by years in both directions. The
kernel's monotonic clock does neither, but begins again with each boot. So a small file holds how
many seconds were counted so far, and when, by that clock, in which boot. Time in which the machine
was off, or that passed before the first count after a boot, does not count: things are kept longer
then, never shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from syncd.private_file import replace_private_file

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4)


class CountedSeconds(Struct, frozen=True):
    """`seconds` were counted when the monotonic clock of `boot` said `monotonic`."""

    seconds: float
    boot: str
    monotonic: float


class CountedTime:
    """The seconds counted for one directory; every process that uses the directory adds to them."""

    def __init__(self, file: Path, monotonic: Callable[[], float], boot: str | None = None) -> None:
        self._file, self._monotonic = file, monotonic
        self._boot = boot if boot is not None else boot_id()

    def seconds(self, if_lost: Callable[[], float]) -> float:
        """Return how many by now; counted from `if_lost` where the file was lost."""
        last = self._last()
        return (last.seconds if last is not None else if_lost()) + self._passed(last)

    def is_due(self, after_seconds: float) -> bool:
        """Return whether nothing was counted in this boot yet, or not for so long."""
        last = self._last()
        same = last is not None and last.boot == self._boot and last.monotonic <= self._monotonic()
        return not same or self._passed(last) >= after_seconds

    def record(self, if_lost: Callable[[], float]) -> float:
        """Return `seconds` and write them to the file. Raises OSError."""
        now = CountedSeconds(self.seconds(if_lost), self._boot, self._monotonic())
        replace_private_file(self._file, msgspec.json.encode(now))
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
    """Return the id of this boot of the machine.

    It is empty where the kernel does not say, and then nothing is counted.
    """
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
