"""Which repositories an App's token can't be had for, kept beside the store.

With it a one-shot leaves them out of the token of the others at once. Losing it costs requests
alone: the repositories are found again. It decides nothing else, and holds no secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

NAME = "lost.json"
LARGEST_BYTES = 16 << 20

Lost = Mapping[int, frozenset[str]]  # installation -> names of repositories, in lower case


class LostRepositories:
    """Those of one identity. `only_look`: nothing is written."""

    def __init__(self, state_dir: Path, identity: str, only_look: bool = False) -> None:
        self._state_dir, self._identity, self._only_look = state_dir, identity, only_look

    def load(self) -> dict[int, frozenset[str]]:
        """What was saved last; nothing for a file that is missing or damaged."""
        found = _read(self._state_dir).get(self._identity)
        lost: dict[int, frozenset[str]] = {}
        for installation, names in found.items() if isinstance(found, dict) else ():
            if installation.isdecimal() and isinstance(names, list):
                lost[int(installation)] = frozenset(str(name) for name in names)
        return lost

    def save(self, lost: Lost) -> None:
        """`load` gives it back. Nothing happens where the disk or the user does not allow it."""
        if self._only_look:
            return
        known = _read(self._state_dir)
        found = {str(number): sorted(names) for number, names in lost.items() if names}
        known[self._identity] = found
        temporary = self._state_dir / f"{NAME}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "w") as file:
                json.dump({name: one for name, one in sorted(known.items()) if one}, file)
            os.replace(temporary, self._state_dir / NAME)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)


def _read(state_dir: Path) -> dict[str, object]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError, ValueError, RecursionError):
        with open(os.open(state_dir / NAME, flags), "rb") as file:
            found = json.loads(file.read(LARGEST_BYTES))
        if isinstance(found, dict):
            return found
    return {}


__all__ = ["LostRepositories"]
