"""Names the entries of the trash. Pure, so that a report can name an entry without the disk."""

from __future__ import annotations

import hashlib

ID_LENGTH = 12  # hexadecimal digits: of a few thousand entries no two are likely to share one


def trash_id(path: str, content: str) -> str:
    """Return the id of the entry for a git blob id at a destination: always the same for both."""
    name = f"{path}\0{content}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(name).hexdigest()[:ID_LENGTH]


__all__ = ["ID_LENGTH", "trash_id"]
