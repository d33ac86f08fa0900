"""The display of running jobs on a terminal: one line each, below everything else that is written.

A thread draws it twice a second, and once a second after the first ones. Nothing is drawn in the
first half second, and rich is loaded after that only: its widths of characters, not its console,
which takes 25 ms to load. Whatever else is written takes the display away first; it is drawn again
with the next refresh. The cursor is never hidden, so no end of the process leaves it hidden. A
display that fails ends, and nothing else does.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from itertools import chain, repeat
from typing import TextIO

from syncd.clock import Clock
from syncd.output import set_display
from syncd.progress import SilentListener, Step, Wait
from syncd.text import one_line

LOG = logging.getLogger(__name__)
DELAY_SECONDS = 0.5  # a command that is done sooner shows nothing
REFRESH_SECONDS = 0.5
FIRST_REFRESHES = 10  # past them the display is drawn half as often
UP, ERASE = "\x1b[1A", "\x1b[2K"  # ECMA-48: cursor up one line, erase the line
USUAL_WINDOW = os.terminal_size((80, 24))
RATE_SECONDS = 5.0  # the rate is that of so many last seconds
LOCK_SECONDS = 1.0  # a shorter wait is not shown: the process of the hook starts
SOON_SECONDS = 120.0
MAX_COLUMNS = 79  # a line that no usual terminal wraps, also when the window becomes narrower
MAX_LINES = 8
WORDS = {
    Step.LISTING: "listing the repository",
    Step.COMPARING: "comparing with the disk",
    Step.FETCHING: "fetching",
    Step.WRITING: "writing",
    Step.SYNCING: "syncing to disk",
    Step.VALIDATE: "running validate",
    Step.ON_CHANGE: "running on_change",
    Step.HEALTH: "checking the health",
}
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class JobLine(SilentListener):
    """What one job does now. It is written by the threads of its run, and read by the display's."""

    def __init__(self, job: str, clock: Clock) -> None:
        self.job, self.is_active, self._clock = job, False, clock
        self._lock = threading.Lock()
        self._subject = ""
        self._waits: list[tuple[Wait, datetime | None, float]] = []
        self._begin(None, "", 0, 0)

    def _begin(self, step: Step | None, detail: str, files: int, size_bytes: int) -> None:
        self._step, self._detail, self._files, self._bytes = step, detail, files, size_bytes
        self._files_done = self._bytes_done = 0
        self._began = self._clock.monotonic()
        self._samples = [(self._began, 0)]  # (time, bytes) of the last seconds

    def step(self, step: Step, detail: str = "", files: int = 0, size_bytes: int = 0) -> None:
        """Show the step."""
        with self._lock:
            self.is_active = True
            self._begin(step, detail, files, size_bytes)

    def advance(self, files: int = 0, size_bytes: int = 0) -> None:
        """Count what is done."""
        with self._lock:
            self._files_done += files
            self._bytes_done += size_bytes

    def asking(self, subject: str) -> None:
        """Show what GitHub is asked for, while there is no step that says more."""
        self._subject, self.is_active = subject, True

    def waiting(self, reason: Wait, until: datetime | None = None) -> None:
        """Show what the job waits for."""
        with self._lock:
            self._waits.append((reason, until, self._clock.monotonic()))

    def resumed(self) -> None:
        """Show one wait less."""
        with self._lock:
            if self._waits:
                self._waits.pop()

    def text(self) -> str:
        """Return the line, without control characters."""
        now = self._clock.monotonic()
        with self._lock:
            parts = self._waiting(now) or self._doing(now)
        return "  ".join(one_line(part) for part in (self.job, *parts) if part)

    def _waiting(self, now: float) -> list[str]:
        for reason, until, since in reversed(self._waits):
            if reason is Wait.GITHUB_LIMIT and until is not None:
                return [
                    f"waiting for GitHub's rate limit until {self._hour(until)} (GitHub names it)"
                ]
            if reason is Wait.OWN_LIMIT and until is not None:
                return [f"waiting until {self._hour(until)}: at most 900 requests a minute"]
            if reason is Wait.OTHER_HOOK and now - since > LOCK_SECONDS:
                return ["waiting: another syncd runs a hook of this job"]
        return []

    def _doing(self, now: float) -> list[str]:
        step = self._step
        if step is None:
            return [f"asking for {self._subject}"]
        if step in (Step.VALIDATE, Step.ON_CHANGE, Step.HEALTH):
            return [WORDS[step], f"{now - self._began:.0f} s", self._detail]
        if step is Step.LISTING and self._files_done:
            return [WORDS[step], f"{self._files_done:,} entries"]
        parts = [WORDS[step]]
        if self._files:
            parts[0] += f" {min(self._files_done, self._files):,} of {self._files:,} files"
        if self._bytes:
            done = min(self._bytes_done, self._bytes)
            parts.append(f"{_size(done)} of {_size(self._bytes)}")
            parts.append(f"{_size(self._rate(now))}/s")
        return parts

    def _hour(self, at: datetime) -> str:
        """Return the local time: with seconds where it is soon."""
        is_soon = (at - self._clock.now()).total_seconds() < SOON_SECONDS
        return f"{at.astimezone():%H:%M:%S}" if is_soon else f"{at.astimezone():%H:%M}"

    def _rate(self, now: float) -> float:
        """Return the bytes a second of the last seconds."""
        self._samples.append((now, self._bytes_done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_SECONDS:
            self._samples.pop(0)
        start, before = self._samples[0]
        return (self._bytes_done - before) / (now - start) if now > start else 0.0


class ProgressDisplay:
    """The lines of all running jobs. `stop` is set when a signal ends the command: the display goes
    then.
    """

    def __init__(self, jobs: int, stop: threading.Event, clock: Clock) -> None:
        self._jobs, self._stop, self._clock = jobs, stop, clock
        self._closed = threading.Event()
        self._lines: dict[str, JobLine] = {}
        self._done = 0
        self._lock = threading.RLock()  # of the terminal
        self._drawn = DrawnLines(sys.stderr)
        set_display(self._hidden)
        self._thread = threading.Thread(target=self._work, name="syncd-progress", daemon=True)
        self._thread.start()

    def line_of(self, job: str) -> JobLine:
        """Return the line of a job; it is shown from the first report on."""
        with self._lock:
            return self._lines.setdefault(job, JobLine(job, self._clock))

    def remove(self, job: str) -> None:
        """Stop showing the job: it is done."""
        with self._lock:
            self._done += self._lines.pop(job, None) is not None

    def close(self) -> None:
        """Take the display away for good."""
        self._closed.set()
        self._thread.join()
        set_display(nullcontext)

    def text(self, columns: int, rows: int) -> str:
        """Return the lines that fit into the terminal."""
        width = max(1, min(columns - 1, MAX_COLUMNS))
        with self._lock:
            active = [line for line in self._lines.values() if line.is_active]
        most = max(1, min(MAX_LINES, rows - 2))
        lines = [line.text() for line in active[:most]]
        if lines and self._jobs > 1:
            lines.append(self._summary(len(active) - most))
        return "\n".join(cut(line, width) for line in lines)

    def _summary(self, hidden: int) -> str:
        more = f", {hidden} more running" if hidden > 0 else ""
        return f"{self._done:,} of {self._jobs:,} jobs done{more}"

    def _work(self) -> None:
        if self._closed.wait(DELAY_SECONDS):
            return
        pauses = refresh_pauses()
        try:
            while not self._closed.wait(next(pauses)) and not self._stop.is_set():
                with self._lock:
                    self._drawn.draw(self.text(*self._drawn.window()))
        except Exception:  # the work goes on without a display
            LOG.debug("the display of progress has failed", exc_info=True)
        with self._hidden():
            pass

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        """Take the display away while the block writes to the terminal."""
        with self._lock:
            with suppress(Exception):  # the block has its work to do, whatever the terminal is
                self._drawn.draw("")
            yield


def refresh_pauses() -> Iterator[float]:
    """Yield the seconds before each refresh: a job that takes long is drawn less often."""
    return chain(repeat(REFRESH_SECONDS, FIRST_REFRESHES), repeat(2 * REFRESH_SECONDS))


class DrawnLines:
    """The last lines of a terminal, which can be replaced as long as nothing else is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._text = stream, ""

    def window(self) -> os.terminal_size:
        """Return the columns and rows of the terminal, as they are now."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return USUAL_WINDOW
        return found if found.columns and found.lines else USUAL_WINDOW

    def draw(self, text: str) -> None:
        """Show the text in place of the one before, in one write."""
        if text == self._text:
            return
        gone = "" if not self._text else "\r" + ERASE + (UP + ERASE) * self._text.count("\n")
        self._text = text
        self._stream.write(gone + text)


def cut(text: str, columns: int) -> str:
    """Return the text cut to so many columns, with an ellipsis where something is missing."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1).rstrip() + "…"


def _size(count: float) -> str:
    for size, unit in UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


__all__ = ["DrawnLines", "JobLine", "ProgressDisplay", "cut", "refresh_pauses"]
