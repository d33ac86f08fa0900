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

from syncd.cli.common import Settings
from syncd.output import echo
from syncd.progress import SILENT, ProgressListener
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


class JobListener:
    """Passes the reports of one job on: to its line of the display, or to be said at once.

    The methods are bound once: a run reports each of its files, of which there may be thousands.
    """

    def __init__(self, line: ProgressListener, said: RunProgress) -> None:
        self.step, self.advance, self.asking = line.step, line.advance, line.asking
        self.waiting, self.resumed = line.waiting, line.resumed
        self.acted, self.unreachable = said.say_action, said.say_unreachable


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
