"""What the listener asks of whoever runs the jobs, whenever somebody looks."""

from __future__ import annotations

from typing import Protocol

from syncd.readings import Readings


class Board(Protocol):
    """Safe to use from many threads."""

    def readings(self) -> Readings:
        """How everything stands now. Raises StoreError."""

    def frozen(self) -> str | None:
        """What does not move that should, in words; None when all is well."""
