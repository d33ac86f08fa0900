"""A command on a terminal of its own, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from msgspec.structs import replace

from syncd.simulator.faults import Answer, FaultEffect
from tests.support.fork_server import MODULE, ForkedSyncd

DEADLINE_SECONDS = 60.0
SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def screen_of(text: str) -> list[str]:
    """The lines on the screen after `text`: what the sequences for moving up and erasing leave of
    it.
    """
    lines, row, column = [""], 0, 0
    for found in SEQUENCE.finditer(text):
        what, (number, action) = found[0], found.groups()
        if what == "\r":
            column = 0
        elif what == "\n":
            row, column = row + 1, column
            lines += [""] * (row + 1 - len(lines))
        elif action == "A":
            row = max(0, row - int(number or 1))
        elif action == "K":
            assert number == "2"
            lines[row] = ""
        elif action is None:
            before = lines[row].ljust(column)
            lines[row] = before[:column] + what + before[column + len(what) :]
            column += len(what)
        else:
            assert action == "m", f"a sequence that a display needs not: {what!r}"
    return [line.rstrip() for line in lines if line.strip()]


class TerminalCommand:
    """A running command. `received` is what it wrote to its terminal."""

    def __init__(self, arguments: list[str], size: tuple[int, int], environ: Mapping[str, str]):
        self._terminal, theirs = os.openpty()
        self.resize(*size)
        self.process = ForkedSyncd(
            [*MODULE, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(environ),
        )
        os.close(theirs)
        self.received = b""

    @property
    def text(self) -> str:
        return self.received.decode(errors="replace")

    @property
    def screen(self) -> list[str]:
        return screen_of(self.text)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        """The screen as soon as it is as wanted."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while not wanted(self.screen):
            assert time.monotonic() < ends and self._read(), f"never shown: {self.text!r}"
        return self.screen

    def wait_for_line(self, pattern: str) -> str:
        """The first line of the screen that matches."""
        screen = self.wait_for(lambda lines: any(re.search(pattern, line) for line in lines))
        return next(line for line in screen if re.search(pattern, line))

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self) -> bool:
        assert select.select([self._terminal], [], [], DEADLINE_SECONDS)[0], self.text
        with suppress(OSError):  # the other end of a terminal ends with EIO
            part = os.read(self._terminal, 4096)
            self.received += part
            return bool(part)
        return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)


@contextmanager
def on_terminal(
    *arguments: str, size: tuple[int, int] = (80, 24), **environ: str
) -> Iterator[TerminalCommand]:
    """Run `syncd` with these arguments on a terminal of so many columns and rows."""
    usual = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", "TZ": "UTC"}
    command = TerminalCommand(list(arguments), size, usual | environ)
    try:
        yield command
    finally:
        command.close()


class Gate:
    """Holds an answer back after a share of its body, until it is opened."""

    def __init__(self, share: float = 0.5) -> None:
        self._share, self._open = share, threading.Event()

    def open(self) -> None:
        self._open.set()

    @property
    def effect(self) -> FaultEffect:
        def gated(answer: Answer) -> Answer:
            size = int(len(answer.body) * self._share)

            def pieces() -> Iterator[bytes]:
                yield answer.body[:size]
                self._open.wait(DEADLINE_SECONDS)
                yield answer.body[size:]

            return replace(answer, pieces=pieces(), declared_length=len(answer.body))

        return gated
