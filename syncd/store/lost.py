"""Which repositories an App's token can't be had for, kept in the store.

With it a one-shot leaves them out of the token of the others at once. Losing it costs requests alone: the repositories are
found again. It decides nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from syncd.errors import StoreError
from syncd.store.facts import Facts


class LostRepositories:
    """Those of one identity. `only_look`: nothing is written."""

    def __init__(self, facts: Facts, identity: str, only_look: bool = False) -> None:
        self._facts, self._identity, self._only_look = facts, identity, only_look

    def load(self) -> dict[int, frozenset[str]]:
        """What was saved last; nothing where the store can't be read."""
        with suppress(StoreError):
            return self._facts.unavailable_repositories(self._identity)
        return {}

    def save(self, lost: Mapping[int, frozenset[str]]) -> None:
        """`load` gives it back. Nothing happens where the disk or the user does not allow it."""
        if not self._only_look:
            with suppress(StoreError):
                self._facts.save_unavailable_repositories(self._identity, lost)


__all__ = ["LostRepositories"]
