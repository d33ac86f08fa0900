"""Converts values to rows and columns and back: ledger rows, applied sets, listings, times.

A value that does not read back whole is damaged, and is left out.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import DecodeError, ValidationError, convert, to_builtins
from msgspec.json import Decoder, Encoder

from syncd.models import (
    Kind,
    LedgerRow,
    Ownership,
    Stat,
    TreeEntry,
    WantedFile,
)
from syncd.store.checksum import checksum
from syncd.store.schema import FILE

T = TypeVar("T")

ENCODE = Encoder().encode
WANTED_FILE = Decoder(WantedFile)
TEXTS = Decoder(tuple[str, ...])
FILES = Decoder(dict[str, WantedFile])
LISTING = Decoder(list[tuple[str, int, str, int | None]])
KINDS = {kind.value: kind for kind in Kind}
OWNERSHIPS = {one.value: one for one in Ownership}
INT64_LIMIT = 1 << 63  # SQLite's integers are signed 64-bit numbers

# --- the ledger -----------------------------------------------------------------------------------

LEDGER = [
    FILE.c[name]
    for name in (
        "path",
        "source",
        "blob_sha",
        "kind",
        "mode",
        "uid",
        "gid",
        "owner",
        "size_bytes",
        "executable",
        "lfs_pointer",
        "root",
        "dir_mode",
        "ownership",
        "wanted",
        "real_path",
        "mount_point",
        "stat_device",
        "stat_inode",
        "stat_size",
        "stat_mtime_ns",
        "stat_ctime_ns",
    )
]


def ledger_values(path: str, row: LedgerRow) -> tuple[Any, ...]:
    """Return the values of a ledger row, in the order of LEDGER."""
    entry = row.entry
    return (
        path,
        entry.source,
        entry.blob,
        entry.kind.value,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.owner,
        entry.size,
        None if entry.executable is None else int(entry.executable),
        entry.pointer,
        entry.root,
        entry.dir_mode,
        row.ownership.value,
        None if row.wanted is None else ENCODE(row.wanted).decode(),
        row.real or path,
        row.mount,
        *_stat_values(row.stat),
    )


def ledger_row(values: Sequence[Any]) -> LedgerRow:
    """Return the ledger row of these values, in the order of LEDGER.

    Raises ValueError, KeyError for values that no version of syncd wrote.
    """
    _path, source, blob, kind, mode, uid, gid, owner, size, executable, *rest = values
    pointer, root, dir_mode, ownership, wanted, real, mount, *stat = rest
    entry = WantedFile(
        blob,
        mode,
        KINDS[kind],
        uid,
        gid,
        source,
        size,
        root,
        dir_mode,
        pointer,
        None if executable is None else bool(executable),
        owner,
    )
    return LedgerRow(
        entry,
        _stat(*stat),
        OWNERSHIPS[ownership],
        None if wanted is None else WANTED_FILE.decode(wanted),
        real,
        mount,
    )


def _stat(device: int | None, inode: int, size: int, mtime_ns: int, ctime_ns: int) -> Stat | None:
    if device is None:
        return None
    return Stat(_unsigned(device), _unsigned(inode), size, mtime_ns, ctime_ns)


def ledger_rows(job: str, found: Iterable[Sequence[Any]]) -> dict[str, LedgerRow]:
    """Return the ledger rows by path, without damaged ones.

    `found` are values of LEDGER and the checksum.
    """
    rows: dict[str, LedgerRow] = {}
    for *values, stored_checksum in found:
        try:
            if stored_checksum == checksum(job, *values):
                rows[values[0]] = ledger_row(values)
        except (ValueError, TypeError, KeyError):
            continue
    return rows


def _stat_values(stat: Stat | None) -> tuple[int | None, ...]:
    """Return the stat columns; all NULL where a time is after 2262, which needs more than 64 bits.

    The file is then read at each run.
    """
    if stat is None or not all(
        -INT64_LIMIT <= one < INT64_LIMIT for one in (stat.size, stat.mtime_ns, stat.ctime_ns)
    ):
        return (None,) * 5
    return _signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns


def _signed(number: int) -> int:
    return number - 2 * INT64_LIMIT if number >= INT64_LIMIT else number


def _unsigned(number: int) -> int:
    return number + 2 * INT64_LIMIT if number < 0 else number


# --- sets and listings ----------------------------------------------------------------------------


def set_to_bytes(rows: Mapping[str, LedgerRow]) -> bytes:
    """Encode the applied set of these ledger rows: what upstream has for each, without what `prune:
    off` left.
    """
    kept = {
        path: row.upstream for path, row in rows.items() if row.ownership is not Ownership.UNLISTED
    }
    return zlib.compress(ENCODE(kept), 1)


def files_from_bytes(body: bytes) -> dict[str, WantedFile]:
    """Decode the files of an applied set. Raises ValueError, zlib.error."""
    return FILES.decode(zlib.decompress(body))


def listing_to_bytes(entries: Mapping[str, TreeEntry]) -> bytes:
    """Encode the entries of a listing."""
    rows = [(path, entry.mode, entry.id, entry.size) for path, entry in entries.items()]
    return zlib.compress(_encode_lenient(rows), 1)


def listing_from_bytes(body: bytes) -> dict[str, TreeEntry]:
    """Decode the entries of a listing. Raises ValueError, zlib.error."""
    rows = _decode_lenient(LISTING, zlib.decompress(body))
    return {path: TreeEntry(mode, identity, size) for path, mode, identity, size in rows}


def _encode_lenient(value: Any) -> bytes:
    """Encode as JSON, with names that are not UTF-8.

    A server may send a name with lone surrogates: it is never written to disk, but it is part of a
    listing.
    """
    try:
        return ENCODE(value)
    except UnicodeEncodeError:
        # This encoder escapes them.
        return json.dumps(to_builtins(value), separators=(",", ":")).encode("ascii")


def _decode_lenient(decoder: Decoder[T], text: str | bytes) -> T:
    """Decode what `_encode_lenient` encoded. Raises ValueError for anything else."""
    try:
        return decoder.decode(text)
    except ValidationError:
        raise
    except DecodeError:  # lone surrogates, or damage
        try:
            return convert(json.loads(text), decoder.type)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


# --- times ----------------------------------------------------------------------------------------


def aware(value: Any) -> datetime | None:
    """Return the time of a value that no checksum covers; None where it is not a time with a
    zone.
    """
    try:
        found = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else None
