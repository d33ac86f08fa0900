"""Which jobs have an open health window, and what asked for a run of them meanwhile.

A worker makes one check and is free until the next one is due. The repository is asked again when
the window has ended, so what was pushed meanwhile is not lost.
"""

from __future__ import annotations

import threading

from syncd.models import Trigger


class HealthWindows:
    """The jobs with an open window. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Trigger | None] = {}

    def goes_on(self, job: str, trigger: Trigger) -> None:
        """Note that the job's window is open, and that `trigger` asked for a run.

        A retry is the next check itself, and asks for nothing more.
        """
        with self._lock:
            before = self._waiting.get(job)
            is_new = trigger is not Trigger.RETRY and (before is None or not before.interactive)
            self._waiting[job] = trigger if is_new else before

    def is_open(self, job: str) -> bool:
        """Return whether the job's window is open, as far as this process knows."""
        with self._lock:
            return job in self._waiting

    def end(self, job: str) -> Trigger | None:
        """Note that the window has ended; return what asked for a run while it was open."""
        with self._lock:
            return self._waiting.pop(job, None)


__all__ = ["HealthWindows"]
