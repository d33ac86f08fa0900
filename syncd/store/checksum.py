"""The checksum of a row that decides about files: against damage by the disk, not against whoever may write the store."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import json

SIZE_BYTES = 8


def checksum(*values: Any, body: bytes = b"") -> str:
    """Change with any bit, and with the type, of any value; `body` is large content, hashed as it is."""
    hasher = hashlib.blake2b(json.encode(values), digest_size=SIZE_BYTES)
    hasher.update(body)
    return hasher.hexdigest()


def matches(found: Any, *values: Any, body: Any = b"") -> bool:
    """Whether the checksum that was found is that of the values; damage can turn any of them into anything."""
    if not isinstance(body, bytes):
        return False
    try:
        return bool(found == checksum(*values, body=body))
    except (TypeError, ValueError):
        return False
