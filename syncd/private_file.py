"""Replaces small files that only their owner may read, whole or not at all.

Standard library only, because the nothing-to-do check (fastpath/check.py) imports its callers. A
file outside the state folder is written by `safe_open.replace_file`, which also checks the
directories above it.
"""

from __future__ import annotations

import os
from contextlib import suppress

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_private_file(
    file: str | os.PathLike[str], content: bytes, *, sync: bool = True
) -> None:
    """Replace the file with this content, with mode 0600.

    Raises OSError; the former file is kept then.

    The content is written to a temporary file beside it, which is renamed. With `sync`, the content
    is on disk before the rename; without it, a crash may leave a truncated file.
    """
    directory, name = os.path.split(file)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")
    try:
        with open(os.open(temporary, FLAGS, 0o600), "wb") as opened:
            opened.write(content)
            if sync:
                opened.flush()
                os.fsync(opened.fileno())
        os.replace(temporary, file)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


__all__ = ["replace_private_file"]
