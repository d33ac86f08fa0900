"""Check that a destination is inside its root and that its name can be written.

Pure: no I/O.
"""

from __future__ import annotations

import os

from syncd.errors import UnsafePathError

NAME_MAX_BYTES = 255  # ext4, xfs, btrfs, tmpfs
PATH_MAX_BYTES = 4095  # PATH_MAX of Linux, less the NUL


def names_below(path: str, root: str) -> tuple[str, ...]:
    """Return the names that lead from `root` down to `path`.

    Raises UnsafePathError when they don't, or when one of them can't be written.
    """
    prefix = root.rstrip("/") + "/"
    if not path.startswith(prefix):
        raise UnsafePathError(f"{_shown(path)} is not inside {root}", path=path)
    if len(os.fsencode(path)) > PATH_MAX_BYTES:
        raise UnsafePathError(
            f"{_shown(path)} is longer than a path can be ({PATH_MAX_BYTES} bytes)", path=path
        )
    names = tuple(path[len(prefix) :].split("/"))
    for name in names:
        problem = name_problem(name)
        if problem:
            raise UnsafePathError(f"{_shown(path)} can't be written: {problem}", path=path)
    return names


def name_problem(name: str) -> str | None:
    """Return why one name can't be written on disk, or None."""
    if name in ("", ".", ".."):
        return f"{name!r} is not a name"
    if "/" in name or "\0" in name:
        return "it holds a slash or a NUL"
    if len(os.fsencode(name)) > NAME_MAX_BYTES:
        return f"{name[:40]!r}… is longer than {NAME_MAX_BYTES} bytes"
    return None


def _shown(path: str) -> str:
    return repr(path) if len(path) <= 160 else f"{path[:100]!r}...{path[-50:]!r}"
