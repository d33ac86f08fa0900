"""Names and paths of git trees, and which of them may be written to disk. Pure: no I/O.

Names that only a case-folding or normalizing file system confuses are checked where all
destinations are known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from syncd.errors import UnsafePathError
from syncd.text import in_quotes

NAME_BYTES = 255  # NAME_MAX of every common Linux filesystem
PATH_BYTES = 4096  # PATH_MAX


def unsafe_name_reason(name: str) -> str | None:
    """Return why a single name in a git tree may not be written to disk, or None."""
    if name in ("", ".", ".."):
        return f"is named {name!r}"
    if "/" in name:
        return "holds a slash inside a name"
    # nearly every name is, and a look at each letter is half the time of verifying a listing
    if not (name.isascii() and name.isprintable()):
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):
            return "holds a name that is not UTF-8"
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            return "holds a control character"
    if name.casefold() == ".git":
        return "is git's own folder"
    if len(name.encode()) > NAME_BYTES:
        return f"has a name of more than {NAME_BYTES} bytes"
    return None


def unsafe_path_reason(path: str) -> str | None:
    """Return `unsafe_name_reason` of the first name in `path` that has one, or None."""
    reasons = map(unsafe_name_reason, path.split("/"))
    return next((reason for reason in reasons if reason is not None), None)


def unsafe_name_error(path: str, reason: str) -> UnsafePathError:
    """Return the error for a path of the repository that is never written."""
    text = f"{in_quotes(path)} in the repository {reason} and is never written"
    return UnsafePathError(text, id="mirror/unsafe-name", path=path)


def is_too_long(path: str) -> bool:
    """Return whether a path is longer than any system call accepts."""
    return len(path) > PATH_BYTES or (
        len(path) > PATH_BYTES // 4 and len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES
    )


def check_length(path: str) -> None:
    """Check that a system call can take the path, before other code reads it.

    Raises UnsafePathError.
    """
    if is_too_long(path):
        reason = f"is longer than a path can be (more than {PATH_BYTES} bytes)"
        raise unsafe_name_error(path[:NAME_BYTES], reason)


def name_bytes(name: str) -> bytes:
    """Return a name as git stores it; lone surrogates are raw bytes that a server passed on."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        pass
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def join_path(folder: str, path: str) -> str:
    """Return `path` below `folder`; the root is the empty path."""
    return f"{folder}/{path}" if folder else path


def parent_of(path: str) -> str:
    """Return the folder that holds `path`; the root is the empty path."""
    return path.rpartition("/")[0]


def has_ancestor_in(folder: str, folders: Sequence[str] | frozenset[str] | set[str]) -> bool:
    """Return whether a proper ancestor of `folder` is among `folders`."""
    while folder:
        folder = parent_of(folder)
        if folder in folders:
            return True
    return False
