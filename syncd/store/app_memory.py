"""What is remembered of an App between runs: its installations, and repositories that its token can't be had for.

With it a one-shot asks for its token at once, and leaves out of it what would fail all of it. Losing it costs requests
alone: everything is found again. It decides nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from syncd.errors import StoreError
from syncd.store.facts import Facts


class AppMemory:
    """That of one identity. Nothing is read or written where the store does not allow it; with `read_only`, nothing is written."""

    def __init__(self, facts: Facts, identity: str, read_only: bool = False) -> None:
        self._facts, self._identity, self._read_only = facts, identity, read_only

    def load(self) -> dict[int, frozenset[str]]:
        """Installation -> repositories that its token can't be had for."""
        with suppress(StoreError):
            return self._facts.unavailable_repositories(self._identity)
        return {}

    def save(self, lost: Mapping[int, frozenset[str]]) -> None:
        """`load` gives it back."""
        if not self._read_only:
            with suppress(StoreError):
                self._facts.save_unavailable_repositories(self._identity, lost)

    def installations(self) -> dict[str, tuple[int, str | None]]:
        """Owner, or OWNER/NAME of a repository that has moved -> id and account of the installation that covers it."""
        with suppress(StoreError):
            return self._facts.installations(self._identity)
        return {}

    def save_installations(self, found: Mapping[str, tuple[int, str | None]]) -> None:
        """`installations` gives it back."""
        if not self._read_only:
            with suppress(StoreError):
                self._facts.save_installations(self._identity, found)


__all__ = ["AppMemory"]
