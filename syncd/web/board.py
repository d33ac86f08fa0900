"""What the listener asks of whoever runs the jobs, whenever somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syncd.readings import Readings
from syncd.recent import RecentRun


class Board(Protocol):
    """Safe to use from many threads."""

    def readings(self) -> Readings:
        """How everything stands now. Raises StoreError."""

    def frozen(self) -> str | None:
        """What does not move that should, in words; None when all is well."""

    def recent(self, show_diffs: bool) -> Sequence[RecentRun]:
        """What the last runs changed, the newest first. Raises StoreError."""
