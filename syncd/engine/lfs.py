"""`lfs: fetch`: where the repository holds a Git LFS pointer, what it stands for is mirrored instead.

Which small file is a pointer only its bytes tell, so new ones are brought first; what the ledger knows is not asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.desired import LFS_POINTER_PREFIX, MAX_LFS_POINTER_BYTES, check_limits
from syncd.errors import MirrorError
from syncd.git_objects import FILE
from syncd.models import Job, Kind, LedgerRow, TreeEntry, WantedFile
from syncd.ports import BlobRequest, Blobs, Pointer, Source

# git-lfs docs/spec.md: version first, then keys in order; unknown keys (ext-...) may stand between
OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
SIZE = re.compile(rb"^size (0|[1-9][0-9]{0,15})$", re.MULTILINE)


def pointer_of(content: bytes, path: str) -> Pointer | None:
    """What a small file's content points to; None when it is no pointer. Raises MirrorError for one that is broken."""
    if not content.startswith(LFS_POINTER_PREFIX):
        return None
    oid, size = OID.search(content), SIZE.search(content)
    if oid is None or size is None or len(content) >= MAX_LFS_POINTER_BYTES:
        raise MirrorError(
            f"{path} begins like a Git LFS pointer, but names no sha256 and size",
            path=path,
            hint="correct it in the repository, exclude it, or set lfs: pointer",
        )
    return Pointer(oid[1].decode(), int(size[1]), path)


def with_contents(
    job: Job,
    commit: str,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    same_rules: bool,
    source: Source,
    blobs: Blobs,
    deadline: Deadline,
) -> dict[str, WantedFile]:
    """The remote snapshot with every pointer's entry replaced by one of its content. Contents not met before are in `blobs`.

    `same_rules`: the ledger was written under this configuration, so a file it holds as it is is no pointer. Raises BrakeError when
    the contents are more than `limits.size`, before any is brought.
    """
    entries = [entry for row in recorded.values() for entry in (row.entry, row.upstream)]
    known = {entry.pointer: entry for entry in entries if entry.pointer is not None}
    plain = {entry.blob for entry in entries if entry.pointer is None} if same_rules else set()
    unverified = {
        entry.blob: entry
        for entry in remote.values()
        if _may_be_pointer(entry) and entry.blob not in known and entry.blob not in plain
    }
    pointers = _read(job, commit, unverified.values(), source, blobs, deadline)
    sizes = {blob: pointer.size for blob, pointer in pointers.items()} | {
        blob: entry.size for blob, entry in known.items()
    }
    check_limits(
        job,
        {
            path: replace(entry, size=sizes.get(entry.blob, entry.size))
            for path, entry in remote.items()
        },
    )
    contents = (
        source.fetch_lfs(job.repo, tuple(pointers.values()), blobs, deadline) if pointers else {}
    )
    found = {blob: (entry.blob, entry.size) for blob, entry in known.items()} | {
        blob: (contents[pointer], pointer.size) for blob, pointer in pointers.items()
    }
    return {path: _content(entry, found) for path, entry in remote.items()}


def refetch_contents(
    job: Job,
    commit: str,
    entries: Iterable[WantedFile],
    source: Source,
    blobs: Blobs,
    deadline: Deadline,
) -> None:
    """The contents of these entries of pointers, which the cache has lost, are in `blobs` again."""
    lost = {entry.pointer: entry for entry in entries if entry.pointer is not None}
    if lost:
        pointers = _read(
            job,
            commit,
            [replace(entry, blob=blob, size=None) for blob, entry in lost.items()],
            source,
            blobs,
            deadline,
        )
        source.fetch_lfs(job.repo, tuple(pointers.values()), blobs, deadline)


def _may_be_pointer(entry: WantedFile) -> bool:
    return entry.kind is Kind.FILE and (
        entry.size is None or len(LFS_POINTER_PREFIX) <= entry.size < MAX_LFS_POINTER_BYTES
    )


def _read(
    job: Job,
    commit: str,
    entries: Iterable[WantedFile],
    source: Source,
    blobs: Blobs,
    deadline: Deadline,
) -> dict[str, Pointer]:
    """Blob -> pointer, for those of the entries that are one. They are fetched where the cache does not have them."""
    some = list(entries)
    source.fetch(
        job.repo,
        commit,
        [
            BlobRequest(entry.source, TreeEntry(FILE, entry.blob, entry.size))
            for entry in some
            if not blobs.has(entry.blob)
        ],
        blobs,
        deadline,
    )
    found = {}
    for entry in some:
        try:
            with blobs.open(entry.blob) as content:
                pointer = pointer_of(content.read(MAX_LFS_POINTER_BYTES), entry.source)
        except KeyError as error:
            raise MirrorError(
                f"the content of {entry.source} can't be read from the cache",
                path=entry.source,
                hint="run it again; it will be fetched anew",
            ) from error
        if pointer is not None:
            found[entry.blob] = pointer
    return found


def _content(entry: WantedFile, found: Mapping[str, tuple[str, int | None]]) -> WantedFile:
    if entry.kind is not Kind.FILE or entry.blob not in found:
        return entry
    blob, size = found[entry.blob]
    return replace(entry, blob=blob, size=size, pointer=entry.blob)
