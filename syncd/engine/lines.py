"""PURE: the lines that differ between two versions of a file, and whose they are to see. Asking that first is the caller's."""

from __future__ import annotations

import difflib

LARGEST = 256 << 10


def readable_by_all(mode: int) -> bool:
    """Contract section 1, "Diffs": whose destination everybody may read, its lines may be shown to everybody."""
    return bool(mode & 0o004)


def changed_lines(old: bytes | None, new: bytes | None) -> list[str] | str:
    """A unified diff's lines without its head; or, in words, why there are none: binary, large, or not there any more (None)."""
    if old is None or new is None:
        return "the bytes are not kept any more"
    if b"\0" in old + new or max(len(old), len(new)) > LARGEST:
        return "binary or large"
    before, after = old.decode("utf-8", "replace").splitlines(), new.decode("utf-8", "replace").splitlines()
    return list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
