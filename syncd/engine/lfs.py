"""`lfs: fetch`: mirror the content that a Git LFS pointer names, instead of the pointer.

Only its bytes tell whether a small file is a pointer, so new ones are fetched first. What the
ledger knows is not asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from syncd.engine.commit_contents import CommitContents
from syncd.engine.desired import LFS_POINTER_PREFIX, MAX_LFS_POINTER_BYTES, set_limit_error
from syncd.errors import MirrorError
from syncd.models import Kind, LedgerRow, WantedFile
from syncd.ports import Pointer

# Source: git-lfs docs/spec.md. Version first, then keys in order; unknown keys (ext-...) between.
OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
SIZE = re.compile(rb"^size (0|[1-9][0-9]{0,15})$", re.MULTILINE)

Content = tuple[str, int | None]  # the blob id and the size of the content that a pointer names


def pointer_of(content: bytes, path: str) -> Pointer | None:
    """Return the pointer that a small file's content is, or None.

    Raises MirrorError for a broken one.
    """
    if not content.startswith(LFS_POINTER_PREFIX):
        return None
    oid, size = OID.search(content), SIZE.search(content)
    if oid is None or size is None or len(content) >= MAX_LFS_POINTER_BYTES:
        raise MirrorError(
            f"{path} begins like a Git LFS pointer, but names no sha256 and size",
            path=path,
            id="mirror/lfs-broken-pointer",
            hint="correct it in the repository, exclude it, or set lfs: pointer",
        )
    return Pointer(oid[1].decode(), int(size[1]), path)


def with_contents(
    contents: CommitContents,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    same_rules: bool,
) -> dict[str, WantedFile]:
    """Return the remote snapshot with the entry of every pointer replaced by one of its content.

    Contents that the ledger does not know are in the cache then. `same_rules`: the ledger was
    written under this configuration, so a file that it holds without a pointer is none. Raises
    LimitError when the contents are more than `limits.size`, before any of them is fetched.
    """
    entries = [entry for row in recorded.values() for entry in (row.entry, row.upstream)]
    known: dict[str, Content] = {
        entry.pointer: (entry.blob, entry.size) for entry in entries if entry.pointer is not None
    }
    plain = {entry.blob for entry in entries if entry.pointer is None} if same_rules else set()
    candidates = {
        entry.blob: entry
        for entry in remote.values()
        if _may_be_pointer(entry) and entry.blob not in known and entry.blob not in plain
    }
    pointers = _read_pointers(contents, candidates.values())
    sizes = {blob: size for blob, (_, size) in known.items()}
    sizes |= {blob: pointer.size for blob, pointer in pointers.items()}
    _check_content_limits(contents, remote, sizes)
    found = known | _fetched(contents, pointers)
    return {path: _content(entry, found) for path, entry in remote.items()}


def _check_content_limits(
    contents: CommitContents, remote: Mapping[str, WantedFile], sizes: Mapping[str, int | None]
) -> None:
    """Raise LimitError when the files are too large with their contents in place of the
    pointers.
    """
    sized = {
        path: replace(entry, size=sizes.get(entry.blob, entry.size))
        for path, entry in remote.items()
    }
    error = set_limit_error(contents.job, sized)
    if error is not None:
        raise error


def _fetched(contents: CommitContents, pointers: Mapping[str, Pointer]) -> dict[str, Content]:
    """Fetch the contents that the pointers name; return the pointer's blob id -> its content."""
    if not pointers:
        return {}
    blobs = contents.fetch_lfs(pointers.values())
    return {blob: (blobs[pointer], pointer.size) for blob, pointer in pointers.items()}


def refetch_contents(contents: CommitContents, entries: Iterable[WantedFile]) -> None:
    """Fetch the contents of those of these entries that come from pointers: the cache has lost
    them.
    """
    lost = {entry.pointer: entry for entry in entries if entry.pointer is not None}
    if not lost:
        return
    pointers = [replace(entry, blob=blob, size=None) for blob, entry in lost.items()]
    contents.fetch_lfs(_read_pointers(contents, pointers).values())


def _may_be_pointer(entry: WantedFile) -> bool:
    return entry.kind is Kind.FILE and (
        entry.size is None or len(LFS_POINTER_PREFIX) <= entry.size < MAX_LFS_POINTER_BYTES
    )


def _read_pointers(contents: CommitContents, entries: Iterable[WantedFile]) -> dict[str, Pointer]:
    """Return blob id -> pointer, for those of the entries that are one.

    Fetches what the cache lacks.
    """
    candidates = list(entries)
    contents.fetch(entry for entry in candidates if not contents.blobs.has(entry.blob))
    found = {}
    for entry in candidates:
        pointer = pointer_of(contents.read(entry, MAX_LFS_POINTER_BYTES), entry.source)
        if pointer is not None:
            found[entry.blob] = pointer
    return found


def _content(entry: WantedFile, found: Mapping[str, Content]) -> WantedFile:
    if entry.kind is not Kind.FILE or entry.blob not in found:
        return entry
    blob, size = found[entry.blob]
    return replace(entry, blob=blob, size=size, pointer=entry.blob)
