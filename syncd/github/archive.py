"""The tarball of a commit as a quick way to many blobs: a hint, never the truth.

Every member is checked against its blob id by the cache it goes into; what is missing, altered by export rules or cut is fetched
singly by the caller. Nothing is ever written by a name that an archive gives.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, cast

from syncd.engine.ports import Blobs
from syncd.errors import BadResponseError, RemoteError
from syncd.models import TreeEntry
from syncd.objects import LINK, blob_id

CHUNK = 256 << 10


class _Stream(io.RawIOBase):
    """Chunks as a file that can only be read forward."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def unpack(chunks: Iterable[bytes], wanted: Mapping[str, TreeEntry], blobs: Blobs) -> int:
    """Every wanted member that the archive has, whole and unaltered, is in `blobs`; the bytes kept.

    Raises RemoteError when the archive itself is broken; what was verified before stays.
    """
    kept = 0
    try:
        stream = cast(BinaryIO, io.BufferedReader(_Stream(_inflated(chunks)), CHUNK))
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            for member in archive:
                _, _, path = member.name.partition("/")  # the top folder is named after repository and commit
                entry = wanted.get(path)
                if entry is not None and not blobs.has(entry.id):
                    kept += _keep(archive, member, entry, blobs)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise BadResponseError(f"the archive is broken: {error}") from error
    return kept


def _keep(archive: tarfile.TarFile, member: tarfile.TarInfo, entry: TreeEntry, blobs: Blobs) -> int:
    if entry.mode == LINK:
        target = member.linkname.encode("utf-8", "surrogateescape") if member.issym() else b""
        return blobs.add(entry.id, [target], len(target)) if blob_id(target) == entry.id else 0
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        return 0
    try:
        return blobs.add(entry.id, iter(lambda: content.read(CHUNK), b""), member.size)
    except RemoteError:
        return 0  # altered by export-subst or on the way: fetched singly, and judged then


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The tar stream of a gzip stream, piece by piece: a bomb is never whole in memory."""
    inflater = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = inflater.decompress(chunk, CHUNK)
        while data:
            yield data
            data = inflater.decompress(inflater.unconsumed_tail, CHUNK) if inflater.unconsumed_tail else b""
    if not inflater.eof:
        raise BadResponseError("the archive ends early")
