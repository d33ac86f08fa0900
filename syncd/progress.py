"""What a run says of itself while it works: which step, how much of it is done, what it waits for.

A run reports to the listener that its deadline carries. The command line shows the reports; the
daemon uses the silent listener. A listener decides nothing, and a run never waits for it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Step(StrEnum):
    """A step of a run that may take long."""

    LISTING = "listing"
    COMPARING = "comparing"
    FETCHING = "fetching"
    WRITING = "writing"
    SYNCING = "syncing"
    VALIDATE = "validate"
    ON_CHANGE = "on_change"
    HEALTH = "health"


class Wait(StrEnum):
    """What a run waits for."""

    GITHUB_LIMIT = "github_limit"  # GitHub names the end
    OWN_LIMIT = "own_limit"  # syncd's own limit on requests a minute
    OTHER_HOOK = "other_hook"  # another syncd runs a hook of the job


class ProgressListener(Protocol):
    """Hears what one run does. Its methods are called from any thread of the run.

    They return at once and raise nothing.
    """

    def step(self, step: Step, detail: str = "", files: int = 0, size_bytes: int = 0) -> None:
        """Note that a step begins, with what it has to do; 0 where that is not known.

        `detail` is the command of a hook.
        """

    def advance(self, files: int = 0, size_bytes: int = 0) -> None:
        """Note that so much more of the step is done."""

    def asking(self, subject: str) -> None:
        """Note that GitHub is asked for the subject."""

    def acted(self, action: str, path: str) -> None:
        """Note that an action (`write`, `remove`) was carried out on a destination."""

    def waiting(self, reason: Wait, until: datetime | None = None) -> None:
        """Note that a thread of the run waits; `until` is when that ends, if it is known."""

    def resumed(self) -> None:
        """Note that a waiting thread goes on."""

    def unreachable(self, host: str, reason: str, retry_until: datetime | None) -> None:
        """Note that no connection to the host could be made.

        `retry_until` is when the last attempt ends, or None when there is no further one.
        """


class SilentListener:
    """Hears everything and does nothing."""

    def step(self, step: Step, detail: str = "", files: int = 0, size_bytes: int = 0) -> None:
        """Do nothing."""

    def advance(self, files: int = 0, size_bytes: int = 0) -> None:
        """Do nothing."""

    def asking(self, subject: str) -> None:
        """Do nothing."""

    def acted(self, action: str, path: str) -> None:
        """Do nothing."""

    def waiting(self, reason: Wait, until: datetime | None = None) -> None:
        """Do nothing."""

    def resumed(self) -> None:
        """Do nothing."""

    def unreachable(self, host: str, reason: str, retry_until: datetime | None) -> None:
        """Do nothing."""


SILENT = SilentListener()

__all__ = ["SILENT", "ProgressListener", "SilentListener", "Step", "Wait"]
