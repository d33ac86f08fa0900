"""What a verification of a signature found. Values only: the engine loads no cryptography."""

from __future__ import annotations

from msgspec import Struct

UNSIGNED = "it has no signature"


class Verdict(Struct, frozen=True):
    """Who signed an object; or None, and why the signature does not count."""

    signer: str | None
    problem: str = ""
