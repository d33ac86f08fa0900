"""Reads blobs from the tarball of a commit, which is a fast way to many blobs and proves nothing.

Every member is checked against its blob id by the cache it goes into. What is missing, altered by
export rules or cut is fetched singly by the caller. No name from an archive is ever used to write.
The headers are read here and not by tarfile, which reads extended headers of any declared size into
memory: here everything but a member's own stream is limited.
Source: POSIX pax, "pax Interchange Format" and "ustar Interchange Format"; git archive writes both,
with one top folder.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from msgspec import Struct

from syncd.errors import BadResponseError
from syncd.git_objects import LINK, blob_id
from syncd.github.bounds import PAX_BYTES, PAX_HEADERS
from syncd.models import TreeEntry
from syncd.ports import BlobWriter
from syncd.tree_names import PATH_BYTES

BLOCK_BYTES = 512
CHUNK_BYTES = 256 << 10
# Headers between two checks of the deadline: one piece of a compressed archive may hold a million.
DEADLINE_CHECK_INTERVAL = 256
FILE_TYPES, LINK_TYPE = b"0\0", b"2"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
EXTENSION_TYPES = (PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK)
USED_RECORDS = (b"path", b"linkpath", b"size")  # the records of a pax header that matter here
MAX_PATH_FIELD_BYTES = 2 * PATH_BYTES  # of a path as the archive writes it, with its top folder


class TarMember(Struct, frozen=True):
    """One member's header.

    `path` is without the top folder; `link` is the target of a symbolic link, in bytes.
    """

    path: str
    type: bytes
    size: int
    link: bytes


class TarExtractor:
    """Extracts `wanted` (path -> entry) from one archive into `blobs`.

    `kept_bytes` counts what went into `blobs`, also when reading fails. `check` is called regularly
    and raises when the run's time is over.
    """

    def __init__(
        self,
        wanted: Mapping[str, TreeEntry],
        blobs: BlobWriter,
        max_bytes: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._wanted, self._blobs = dict(wanted), blobs
        self._max_bytes, self._check = max_bytes, check
        self.kept_bytes = 0

    def read(self, chunks: Iterable[bytes]) -> int:
        """Extract every wanted member that the archive has unaltered; return the bytes kept.

        Reading ends at the last wanted member. Raises BadResponseError when the archive is broken
        or unpacks to more than it may; what was verified before stays.
        """
        stream = TarStream(gunzip(chunks), self._max_bytes)
        for count, member in enumerate(read_members(stream)):
            if count % DEADLINE_CHECK_INTERVAL == 0:
                self._check()
            entry = self._wanted.pop(member.path, None)
            if entry is not None and not self._blobs.has(entry.id):
                self._keep(stream, member, entry)
            if not self._wanted:
                break
        return self.kept_bytes

    def _keep(self, stream: TarStream, member: TarMember, entry: TreeEntry) -> None:
        if entry.mode == LINK:
            if member.type == LINK_TYPE and blob_id(member.link) == entry.id:
                self.kept_bytes += self._blobs.add(entry.id, [member.link], len(member.link))
            return
        if member.type not in FILE_TYPES:
            return
        # A file altered by export-subst is fetched singly, and judged then. A broken archive is
        # detected at the next header.
        with suppress(BadResponseError):
            self.kept_bytes += self._blobs.add(entry.id, stream.content(), member.size)


class TarStream:
    """A tar stream that is read forward, with at most one chunk in memory."""

    def __init__(self, chunks: Iterator[bytes], max_bytes: int) -> None:
        self._chunks, self._buffer, self._bytes_left = chunks, memoryview(b""), max_bytes
        self._content, self._padding = 0, 0

    def next_header(self) -> bytes:
        """Skip the rest of the current member and return the next block; empty at a clean end."""
        for _ in self.content():
            pass
        self._skip(self._padding)
        self._padding = 0
        block = self._take(BLOCK_BYTES)
        if block and len(block) < BLOCK_BYTES:
            raise BadResponseError("the archive ends within a header")
        return block

    def begin_content(self, size: int) -> None:
        """Take the blocks that follow as a member's content of `size` bytes."""
        self._content, self._padding = size, -size % BLOCK_BYTES

    def content(self) -> Iterator[bytes]:
        """Yield the current member's unread content.

        Raises BadResponseError when the stream ends before the content does.
        """
        while self._content:
            piece = self._piece(self._content)
            if not piece:
                raise BadResponseError("the archive ends within a file")
            self._content -= len(piece)
            yield piece

    def read_content(self, max_bytes: int) -> bytes:
        """Return the current member's content at once, for extended headers.

        Raises BadResponseError when it is longer than `max_bytes`.
        """
        if self._content > max_bytes:
            raise BadResponseError(f"the archive has an extended header of {self._content} bytes")
        return b"".join(self.content())

    def _skip(self, count: int) -> None:
        if len(self._take(count)) < count:
            raise BadResponseError("the archive ends early")

    def _take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count and (piece := self._piece(count - len(taken))):
            taken += piece
        return bytes(taken)

    def _piece(self, max_bytes: int) -> bytes:
        while not self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._bytes_left -= len(chunk)
            if self._bytes_left < 0:
                raise BadResponseError("the archive unpacks to more than is worth it, or is sane")
            self._buffer = memoryview(chunk)
        piece, self._buffer = bytes(self._buffer[:max_bytes]), self._buffer[max_bytes:]
        return piece


def read_members(stream: TarStream) -> Iterator[TarMember]:
    """Yield the members in order, extended headers applied; their content may be left unread.

    Raises BadResponseError.
    """
    extended: dict[str, bytes] = {}
    headers = 0
    while block := stream.next_header():
        if not any(block):
            return  # the end mark is zero blocks
        _check(block)
        kind = block[156:157]
        stream.begin_content(_number(block[124:136]))
        headers = headers + 1 if kind in EXTENSION_TYPES else 0
        if headers > PAX_HEADERS:
            raise BadResponseError(
                f"the archive has more than {PAX_HEADERS} extended headers before one file"
            )
        if kind == PAX:
            extended.update(parse_pax_records(stream.read_content(PAX_BYTES)))
        elif kind == LONG_NAME:
            extended["path"] = stream.read_content(PAX_BYTES).rstrip(b"\0")
        elif kind == LONG_LINK:
            extended["linkpath"] = stream.read_content(PAX_BYTES).rstrip(b"\0")
        elif kind != PAX_GLOBAL:
            yield _member(stream, block, kind, extended)
            extended = {}
    raise BadResponseError("the archive ends without its end mark")


def _member(
    stream: TarStream, block: bytes, kind: bytes, extended: Mapping[str, bytes]
) -> TarMember:
    path, link = extended.get("path"), extended.get("linkpath")
    if path is None:
        path = _text(block[:100])
        prefix = _text(block[345:500]) if block[257:262] == b"ustar" else b""
        path = prefix + b"/" + path if prefix else path
    size = _number(block[124:136])
    if "size" in extended:
        size = _decimal(extended["size"])
    stream.begin_content(size if kind in FILE_TYPES else 0)
    if len(path) > MAX_PATH_FIELD_BYTES:
        raise BadResponseError(f"the archive has a name of {len(path)} bytes")
    _, _, below = path.partition(b"/")  # the top folder is named after repository and commit
    return TarMember(
        below.decode("utf-8", "surrogateescape"),
        kind,
        size,
        link if link is not None else _text(block[157:257]),
    )


def parse_pax_records(body: bytes) -> dict[str, bytes]:
    """Return key -> value of the used records of a pax header, `LENGTH KEY=VALUE\\n` each.

    No other record is copied: a header of many small ones costs its length, not its square. Raises
    BadResponseError.
    """
    found: dict[str, bytes] = {}
    start = 0
    while start < len(body):
        space = body.find(b" ", start, start + 16)
        length = _decimal(body[start:space]) if space > start else 0
        end, equals = start + length, body.find(b"=", space + 1, start + length)
        is_complete = space >= 0 and equals >= 0 and equals < end <= len(body)
        if not is_complete or body[end - 1 : end] != b"\n":
            raise BadResponseError("the archive has an extended header that makes no sense")
        key = body[space + 1 : equals] if equals - space < 16 else b""
        if key in USED_RECORDS:
            found[key.decode()] = body[equals + 1 : end - 1]
        start = end
    return found


def _check(block: bytes) -> None:
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    if _number(block[148:156]) != total:
        raise BadResponseError("the archive has a header whose checksum does not fit")


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _number(raw: bytes) -> int:
    """Parse an octal field. (Base-256 is for sizes past 8 GiB, which are past every limit here.)"""
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise BadResponseError("the archive has a header that makes no sense")
    return int(digits, 8)


def _decimal(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 15:
        raise BadResponseError("the archive has a number that makes no sense")
    return int(raw)


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of a gzip stream piece by piece, so that a bomb is never whole in memory.

    Raises BadResponseError.
    """
    inflater = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        while chunk and not inflater.eof:
            try:
                piece = inflater.decompress(chunk, CHUNK_BYTES)
            except zlib.error as error:
                raise BadResponseError(
                    f"the archive is no gzip stream, or is damaged: {error}"
                ) from error
            chunk = inflater.unconsumed_tail
            if piece:
                yield piece
    if not inflater.eof:
        raise BadResponseError("the archive ends early")
