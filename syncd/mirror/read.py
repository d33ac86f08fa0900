"""Reads a destination's bytes for those who only look, by the same safe way down as everything else."""

from __future__ import annotations

import os
import posixpath

from syncd.errors import MirrorError
from syncd.mirror.folders import Missing, opened
from syncd.mirror.paths import below


def read_file(path: str, root: str, limit: int) -> bytes | None:
    """At most `limit` bytes of the regular file at `path`; None when it can't be read."""
    parent = posixpath.dirname(path)
    try:
        with opened(root, below(parent, root) if parent != root else ()) as folder:
            descriptor = os.open(posixpath.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(descriptor, "rb") as file:
                return file.read(limit)
    except (OSError, MirrorError, Missing):
        return None
