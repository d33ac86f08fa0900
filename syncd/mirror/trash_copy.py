"""Read or copy what is at one name in an open directory, for the trash, and hash it."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from syncd.git_objects import blob_hasher, size_of
from syncd.mirror.sparse import copy_sparse
from syncd.models import Kind, LocalFile

COPY_BYTES = 1 << 20


def copy_content(folder: int, name: str, local: LocalFile, copy_to: Path | None) -> tuple[str, int]:
    """Return git blob id and size of the file's bytes or the link's text, copied to disk."""
    with _opened(folder, name, local.kind) as content:
        if copy_to is None:
            size = size_of(content)
            return blob_id_of(content, size), size
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(copy_to, flags, 0o600), "w+b") as kept:
            if local.kind is Kind.FILE:  # no more than there was when it was looked at
                copy_sparse(content.fileno(), kept.fileno(), local.stat.size)
            else:
                kept.write(content.read())
                kept.flush()
            os.fsync(kept.fileno())
            size = kept.seek(0, os.SEEK_END)
            kept.seek(0)
            return blob_id_of(kept, size), size


def _opened(folder: int, name: str, kind: Kind) -> BinaryIO:
    if kind is Kind.LINK:
        return BytesIO(os.fsencode(os.readlink(name, dir_fd=folder)))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return open(os.open(name, flags, dir_fd=folder), "rb")


def blob_id_of(content: BinaryIO, size: int) -> str:
    """Return the git blob id of what is left to read, which should be `size` bytes."""
    hasher, left = blob_hasher(size), size
    while left >= 0 and (chunk := content.read(COPY_BYTES)):  # one that grows meanwhile has no end
        hasher.update(chunk)
        left -= len(chunk)
    return hasher.hexdigest()
