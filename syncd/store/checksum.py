"""Checksums for rows that decide about files: they show damage by the disk, not changes by a
user.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import json

SIZE_BYTES = 8


def checksum(*values: Any, body: bytes = b"") -> str:
    """Return a checksum that changes with any bit and the type of each value, and with the bytes of
    `body`.
    """
    hasher = hashlib.blake2b(json.encode(values), digest_size=SIZE_BYTES)
    hasher.update(body)
    return hasher.hexdigest()


def matches(stored: Any, *values: Any, body: Any = b"") -> bool:
    """Return whether the stored checksum is that of the values.

    Damage can turn the checksum and the values into anything; they never match then.
    """
    if not isinstance(body, bytes):
        return False
    try:
        return bool(stored == checksum(*values, body=body))
    except (TypeError, ValueError):
        return False
