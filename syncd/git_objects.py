"""Git's object ids, computed from the bytes, so that no download and no file on disk is trusted
unchecked.

Ids are SHA-1 over `TYPE SIZE NUL CONTENT`, lower-case hex. Source: gitformat and "Git Internals -
Git Objects"; a test compares with git itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from typing import BinaryIO, Protocol

FILE, EXECUTABLE, LINK, TREE, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
CHUNK_BYTES = 1 << 20

_OBJECT_ID = re.compile(r"[0-9a-f]{40}\Z")


class Hasher(Protocol):
    """A hash of the standard library."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add content."""

    def hexdigest(self) -> str:
        """Return the digest of the content so far, in lower-case hex."""


def is_object_id(text: str) -> bool:
    """Return whether the text is 40 lower-case hex digits, the only form that a git id has here."""
    return _OBJECT_ID.match(text) is not None


def blob_hasher(size_bytes: int) -> Hasher:
    """Return a hash that gives the blob id once exactly `size_bytes` of content were added."""
    return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


def size_of(content: BinaryIO) -> int:
    """Return how many bytes there are, and go back to the start."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    return size


def is_content_of(content: BinaryIO, blob: str) -> bool:
    """Return whether the content hashes to this blob id. Raises OSError."""
    hasher = blob_hasher(size_of(content))
    while chunk := content.read(CHUNK_BYTES):
        hasher.update(chunk)
    return hasher.hexdigest() == blob


def blob_id(content: bytes) -> str:
    """Return the blob id of the content."""
    hasher = blob_hasher(len(content))
    hasher.update(content)
    return hasher.hexdigest()


def tree_content(entries: Iterable[tuple[int, bytes, str]]) -> bytes:
    """Return the body of a git tree object.

    Entries are (git mode, name, id), in any order; git sorts trees as if `/` ended their names.
    """
    ordered = sorted(entries, key=lambda entry: entry[1] + (b"/" if entry[0] == TREE else b""))
    return b"".join(
        b"%o %s\0" % (mode, name) + bytes.fromhex(identity) for mode, name, identity in ordered
    )


def object_id(kind: str, content: bytes) -> str:
    """Return the id of a git object of this kind."""
    return hashlib.sha1(
        f"{kind} {len(content)}".encode() + b"\0" + content, usedforsecurity=False
    ).hexdigest()


def tree_id(entries: Iterable[tuple[int, bytes, str]]) -> str:
    """Return the id of the tree that holds exactly these (git mode, name, id) entries."""
    return object_id("tree", tree_content(entries))
