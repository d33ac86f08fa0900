"""What a one-shot command says while it works: actions with -v, a silent host, a display on a
terminal.

The display is in `progress_display.py`, which is used only where stderr is a terminal. In a pipe
nothing of it is loaded.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from syncd.cli.common import Settings
from syncd.output import echo
from syncd.progress import SILENT, ProgressListener, Step, Wait
from syncd.text import one_line

if TYPE_CHECKING:
    from syncd.cli.progress_display import ProgressDisplay
    from syncd.wiring import AppContext

log = logging.getLogger(__name__)
DUMB_TERMINALS = ("", "dumb", "unknown")


class RunProgress:
    """What the jobs of one command report, on its way to stderr.

    `display` shows the jobs that run, or is None.
    """

    def __init__(self, verbose: bool, display: ProgressDisplay | None = None) -> None:
        self._verbose, self._display = verbose, display
        self._unreachable: set[str] = set()
        self._lock = threading.Lock()

    def listener_of(self, job: str) -> ProgressListener:
        """Return what hears one job; the job "" is the command itself."""
        return JobListener(SILENT if self._display is None else self._display.line_of(job), self)

    def finished(self, job: str) -> None:
        """Stop showing the job."""
        if self._display is not None:
            self._display.remove(job)

    def say_action(self, action: str, path: str) -> None:
        """Say what was done, with -v."""
        if self._verbose:
            echo(f"{action} {one_line(path)}", err=True)

    def say_unreachable(self, host: str, reason: str, retry_until: datetime | None) -> None:
        """Warn that the host does not answer: once for each host and command."""
        with self._lock:
            if host in self._unreachable:
                return
            self._unreachable.add(host)
        again = ""
        if retry_until is not None:
            again = f"; trying again until {retry_until.astimezone():%H:%M:%S}"
        log.warning("GitHub does not answer (%s): %s%s", host, reason, again)


class JobListener(Struct, frozen=True):
    """Passes the reports of one job on: to its line of the display, or to be said at once."""

    line: ProgressListener
    said: RunProgress

    def step(self, step: Step, detail: str = "", files: int = 0, size_bytes: int = 0) -> None:
        """Show the step."""
        self.line.step(step, detail, files, size_bytes)

    def advance(self, files: int = 0, size_bytes: int = 0) -> None:
        """Show how much is done."""
        self.line.advance(files, size_bytes)

    def asking(self, subject: str) -> None:
        """Show what GitHub is asked for."""
        self.line.asking(subject)

    def acted(self, action: str, path: str) -> None:
        """Say what was done."""
        self.said.say_action(action, path)

    def waiting(self, reason: Wait, until: datetime | None = None) -> None:
        """Show what the job waits for."""
        self.line.waiting(reason, until)

    def resumed(self) -> None:
        """Show one wait less."""
        self.line.resumed()

    def unreachable(self, host: str, reason: str, retry_until: datetime | None) -> None:
        """Warn that the host does not answer."""
        self.said.say_unreachable(host, reason, retry_until)


@contextmanager
def progress_of(settings: Settings, app: AppContext, jobs: int = 0) -> Iterator[RunProgress]:
    """Let the command say what it does while the block runs.

    `jobs` is how many jobs it runs, each with a line of its own; 0 gives all requests one line.
    """
    display = None
    if not settings.quiet and sys.stderr.isatty() and _can_move_cursor(settings):
        from syncd.cli.progress_display import ProgressDisplay

        display = ProgressDisplay(jobs, app.stop, app.clock)
    progress = RunProgress(settings.verbose > 0, display)
    app.listener_of = progress.listener_of if jobs else lambda job: progress.listener_of("")
    try:
        yield progress
    finally:
        if display is not None:
            display.close()


def _can_move_cursor(settings: Settings) -> bool:
    return settings.environ.get("TERM", "") not in DUMB_TERMINALS


__all__ = ["RunProgress", "progress_of"]
