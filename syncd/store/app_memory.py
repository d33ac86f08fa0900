"""Remembers facts about an App between runs: its installations, and repositories that a token is
refused for.

With them a one-shot requests its token at once, and leaves out the repositories that would make the
whole request fail. Losing them costs requests only: everything is found again. They decide nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from syncd.errors import StoreError
from syncd.store.facts import Facts


class AppMemory:
    """The remembered facts of one identity.

    A store that cannot be read or written is ignored; with `read_only`, nothing is saved.
    """

    def __init__(self, facts: Facts, identity: str, read_only: bool = False) -> None:
        self._facts, self._identity, self._read_only = facts, identity, read_only

    def load(self) -> dict[int, frozenset[str]]:
        """Return, for each installation, the repositories that a token is refused for."""
        with suppress(StoreError):
            return self._facts.unavailable_repositories(self._identity)
        return {}

    def save(self, lost: Mapping[int, frozenset[str]]) -> None:
        """Save the repositories that a token is refused for."""
        if not self._read_only:
            with suppress(StoreError):
                self._facts.save_unavailable_repositories(self._identity, lost)

    def installations(self) -> dict[str, tuple[int, str | None]]:
        """Return id and account of the installation that covers each owner or moved repository.

        The keys are owners, or OWNER/NAME of repositories that have moved.
        """
        with suppress(StoreError):
            return self._facts.installations(self._identity)
        return {}

    def save_installations(self, found: Mapping[str, tuple[int, str | None]]) -> None:
        """Save the installations in the place of all that are stored."""
        if not self._read_only:
            with suppress(StoreError):
                self._facts.save_installations(self._identity, found)


__all__ = ["AppMemory"]
