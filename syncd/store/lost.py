"""Which repositories an App's token can't be had for, kept beside the store.

With it a one-shot leaves them out of the token of the others at once. Losing it costs requests
alone: the repositories are found again. It decides nothing else, and holds no secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from syncd.store.place import read_if_possible, replace_if_possible

NAME = "lost.json"
LARGEST_BYTES = 16 << 20

Lost = Mapping[int, frozenset[str]]  # installation -> names of repositories, in lower case


class LostRepositories:
    """Those of one identity. `only_look`: nothing is written."""

    def __init__(self, state_dir: Path, identity: str, only_look: bool = False) -> None:
        self._state_dir, self._identity, self._only_look = state_dir, identity, only_look

    def load(self) -> dict[int, frozenset[str]]:
        """What was saved last; nothing for a file that is missing or damaged."""
        found = read_if_possible(self._state_dir / NAME, LARGEST_BYTES).get(self._identity)
        lost: dict[int, frozenset[str]] = {}
        for installation, names in found.items() if isinstance(found, dict) else ():
            if installation.isdecimal() and isinstance(names, list):
                lost[int(installation)] = frozenset(str(name) for name in names)
        return lost

    def save(self, lost: Lost) -> None:
        """`load` gives it back. Nothing happens where the disk or the user does not allow it."""
        if self._only_look:
            return
        file = self._state_dir / NAME
        known = read_if_possible(file, LARGEST_BYTES)
        known[self._identity] = {str(number): sorted(names) for number, names in lost.items() if names}
        kept = {name: one for name, one in sorted(known.items()) if one}
        replace_if_possible(file, json.dumps(kept))


__all__ = ["LostRepositories"]
