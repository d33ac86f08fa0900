"""Whose turn it is to run a command of `on_change`: one process at a time, and when it last began.

The lock is a file (file_lock.py), so that it ends with its process. The time is in the store, so
that a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from syncd.errors import LockedError
from syncd.ports import ReloadTurns
from syncd.store.facts import Facts
from syncd.store.lock import command_lock


class StoredReloadTurns(ReloadTurns):
    """The turns of all commands of one state folder. Safe to use from many threads."""

    def __init__(self, state_dir: Path, facts: Facts) -> None:
        self._state_dir, self._facts = state_dir, facts

    @contextmanager
    def turn(self, command: str) -> Iterator[bool]:
        """Hold the command's turn during the block; yields False where it is running elsewhere."""
        with ExitStack() as held:
            try:
                held.enter_context(command_lock(self._state_dir, command))
                is_ours = True
            except LockedError:
                is_ours = False
            yield is_ours

    def last_start(self, command: str) -> datetime | None:
        """Return when the command last began; None where that is not known."""
        return self._facts.reload_start(command)

    def note_start(self, command: str, at: datetime) -> None:
        """Store that the command begins now. Raises StoreError."""
        self._facts.save_reload_start(command, at)


__all__ = ["StoredReloadTurns"]
