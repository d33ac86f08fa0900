"""The reports of an agent's runs, written to the fleet's database by a thread of their own.

The last report of each job waits while nothing can be written, and is written when the database
takes it: a rollout counts on it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from syncd.errors import RemoteUnavailableError, SyncdError
from syncd.fleet.link import Link
from syncd.fleet.reports import AgentReport, Presence, save_report

LOG = logging.getLogger("syncd.fleet")


class Reporter:
    """Writes reports, the last one of each job. `add` returns at once, whatever the database does.

    `save` writes one report; it raises what the database raises.
    """

    def __init__(
        self, save: Callable[[AgentReport], None], retry_seconds: Callable[[int], float]
    ) -> None:
        self._save, self._retry_seconds = save, retry_seconds
        self._waiting: dict[str, AgentReport] = {}
        self._changed = threading.Condition()
        self._stopping, self._failures = False, 0

    def add(self, report: AgentReport) -> None:
        """Let a report be written, in the place of the job's one that still waits."""
        with self._changed:
            self._waiting.pop(report.job, None)
            self._waiting[report.job] = report
            self._changed.notify()

    def stop(self) -> None:
        """Let `run` write what waits, once, and return."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Write reports until `stop`."""
        while (report := self._next()) is not None:
            failed = self._write(report)
            if failed and self._pause():
                return

    def _next(self) -> AgentReport | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            return next(iter(self._waiting.values()), None)

    def _pause(self) -> bool:
        """Wait after a failure; return whether to stop."""
        with self._changed:
            seconds = self._retry_seconds(self._failures)
            self._failures += 1
            self._changed.wait_for(lambda: self._stopping, seconds)
            return self._stopping

    def _write(self, report: AgentReport) -> bool:
        """Write one report; return whether it still waits, because nothing can be written now."""
        try:
            self._save(report)
        except RemoteUnavailableError as error:
            level = logging.DEBUG if self._failures else logging.WARNING
            LOG.log(level, "%s: the report of the run waits: %s", report.job, error.message)
            return True
        except SyncdError as error:
            LOG.warning("%s: the run was not reported: %s", report.job, error.message)
        except Exception:
            LOG.exception("a bug in syncd, met while reporting; please report these lines")
        else:
            self._failures = 0
        with self._changed:
            if self._waiting.get(report.job) is report:
                del self._waiting[report.job]
        return False


def reporter_of(link: Link, presence: Callable[[], Presence]) -> Reporter:
    """Return what writes reports over an agent's connection."""

    def save(one: AgentReport) -> None:
        with link.begin() as connection:
            save_report(connection, presence(), one.report, one.sequence)

    return Reporter(save, link.pause_seconds)


__all__ = ["Reporter", "reporter_of"]
