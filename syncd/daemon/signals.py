"""Signals as numbers that a loop reads. Handlers do nothing, so a signal interrupts nothing half
done.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import TracebackType

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Signals:
    """A context manager that collects the signals of HANDLED_SIGNALS. Main thread only."""

    def __enter__(self) -> Signals:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _ignore) for number in HANDLED_SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reading)
        os.close(self._writing)

    def wake(self) -> None:
        """Wake the thread in `wait`. Any thread may call this."""
        with suppress(BlockingIOError):  # the pipe is full, so the loop wakes anyway
            os.write(self._writing, b"\0")

    def wait(self, seconds: float) -> set[int]:
        """Return the signals since the last call, waiting up to `seconds` for one."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            return set()
        return {number for number in os.read(self._reading, 4096) if number}


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the wakeup descriptor has the number already."""


__all__ = ["Signals"]
