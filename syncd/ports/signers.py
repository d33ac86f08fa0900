"""Who may sign: the file of allowed signers, as the engine sees it."""

from __future__ import annotations

from typing import Protocol

from syncd.signatures.signed_object import SignedObject
from syncd.signatures.verdict import Verdict


class Signers(Protocol):
    """Verifies signatures against files of allowed signers. Safe to use from many threads."""

    def digest(self, file: str) -> str:
        """Return a digest of the file's content; empty for one that can't be used."""

    def verify(self, file: str, signed: SignedObject) -> Verdict:
        """Return whether one of the signers in the file signed the object. Raises ConfigError."""


__all__ = ["Signers"]
