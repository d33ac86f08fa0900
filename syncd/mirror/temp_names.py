"""Names of temporary files, links and directories in a destination's directory."""

from __future__ import annotations

import secrets

TEMP_PREFIX = ".syncd-"


def temp_name(intent: str) -> str:
    """Return a new temporary name of the intent; cleanup.py removes what a crash leaves."""
    return f"{TEMP_PREFIX}{intent}-{secrets.token_hex(8)}"
