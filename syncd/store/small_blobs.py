"""Stores the small contents of the blob cache in one table of a second SQLite file.

The file is `STATE/cache.db`.

A first sync of thousands of small files would otherwise create a cache file for each of them.
Contents are written in batches with `synchronous=NORMAL`: a power cut may lose the last ones, never
the database. Every reader verifies what it gets by its git id, so the file may be damaged, removed
or lost at any time; that costs a download. A process that finds it damaged stops using it, and the
file is removed once no process uses the cache (`remove_damaged`).

The lock that keeps other processes from evicting what a run uses is left to blobs.py. SQLAlchemy is
loaded only where there is such a file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from syncd.git_objects import is_object_id
from syncd.store.foreign_store import open_foreign
from syncd.store.location import make_private, open_nofollow, opening_lock

if TYPE_CHECKING:
    from syncd.store.cache_table import CacheTable

T = TypeVar("T")

# Larger content is a file of its own: creating it is cheap compared with writing that much.
MAX_SMALL_BYTES = 64 << 10
BUSY_SECONDS = 30.0
DAMAGE_CODES = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,
}
SUFFIXES = ("", "-wal", "-shm")


class SmallBlobs:
    """The small contents of one cache, for many threads and processes.

    With `read_only`, nothing is created or changed, beside the file either.
    """

    def __init__(self, file: Path, read_only: bool = False) -> None:
        self._file, self._read_only = file, read_only
        self._guard = RLock()
        self._table: CacheTable | None = None
        self._identity: tuple[int, int] | None = None
        self._opened = ExitStack()
        self._is_damaged = False

    def close(self) -> None:
        """Close the connection; the next use opens the file again."""
        with self._guard, suppress(sqlite3.Error):
            # The marker tells at the next opening whether the file is damaged.
            self._table, self._is_damaged = None, False
            self._opened.close()

    def has(self, blob: str) -> bool:
        """Return whether a content is stored under this id; it may turn out damaged."""
        return is_object_id(blob) and self._query(
            lambda table: table.has(bytes.fromhex(blob)), False
        )

    def read(self, blob: str, now: float, unused_since: float) -> bytes | None:
        """Return the content as stored, unverified; None where it is not here.

        Content that was last used before `unused_since` is recorded as used `now`.
        """
        if not is_object_id(blob):  # from a history that the disk has damaged
            return None
        found = self._query(lambda table: table.read(bytes.fromhex(blob)), None)
        if found is None:
            return None
        used_at, content = found
        if used_at < unused_since:
            self._query(lambda table: table.touch(bytes.fromhex(blob), now), None)
        return content

    def discard(self, blob: str) -> None:
        """Delete the content. Where the disk refuses, it stays, and is found damaged again."""
        if is_object_id(blob):
            self._query(lambda table: table.delete([bytes.fromhex(blob)]), None)

    def ids(self) -> list[str]:
        """Return the id of each stored content, in order."""
        nothing: list[bytes] = []
        return [blob.hex() for blob in self._query(lambda table: table.ids(), nothing)]

    def write(self, contents: Mapping[str, bytes], now: float) -> bool:
        """Store these contents by id, in one transaction. Return False where the file is damaged.

        Raises sqlite3.Error, StoreError.
        """
        values = [(bytes.fromhex(blob), content) for blob, content in contents.items()]

        def put(table: CacheTable) -> bool:
            table.put(values, now)
            return True

        with self._guard:
            if self._table is not None and self._current_identity() != self._identity:
                self.close()  # removed or replaced: what is written there would be lost
            if not self._is_damaged and self._current_identity() is None:
                make_private(self._file)
            return self._query(put, False, ignore_errors=False)

    def sync(self, blob: str, now: float) -> None:
        """Sync everything that was stored to disk; `blob` is one of the contents.

        Raises sqlite3.Error.
        """
        self._query(lambda table: table.sync(bytes.fromhex(blob), now), None, ignore_errors=False)

    def evict(self, in_use: Set[str], before: float, after: float) -> int:
        """Delete contents that are not in use and were last used before `before` or after `after`;
        return the bytes freed.

        A use after `after` was recorded before the clock was set back. Raises sqlite3.Error.
        """
        used = {bytes.fromhex(blob) for blob in in_use if is_object_id(blob)}
        return self._query(lambda table: table.evict(used, before, after), 0, ignore_errors=False)

    def remove_damaged(self) -> None:
        """Remove a file that was found damaged. Raises OSError.

        Only for a caller that knows that no process uses the cache.
        """
        with self._guard:
            if not os.path.lexists(self.damaged_marker):
                return
            self.close()
            for name in (*(f"{self._file}{suffix}" for suffix in SUFFIXES), self.damaged_marker):
                with suppress(FileNotFoundError):
                    os.unlink(name)
            self._is_damaged = False

    @property
    def damaged_marker(self) -> str:
        """The path whose existence says that the file was found damaged."""
        return f"{self._file}.damaged"

    # --- internals --------------------------------------------------------------------------------

    def _query(self, query: Callable[[CacheTable], T], default: T, ignore_errors: bool = True) -> T:
        """Return the answer of the table; `default` where there is no usable file.

        Raises sqlite3.Error for errors other than damage, unless they are to be ignored.
        """
        with self._guard:
            try:
                table = self._open_table()
                return default if table is None else query(table)
            except sqlite3.Error as error:
                if (
                    getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
                    in DAMAGE_CODES
                ):
                    self._mark_damaged()
                elif not ignore_errors:
                    raise
            return default

    def _open_table(self) -> CacheTable | None:
        """Return the table in the file; None for no file, or a damaged one. Raises sqlite3.Error.

        A file that was removed since it was opened still returns what it had.
        """
        if self._is_damaged or self._table is not None:
            return self._table
        self._identity = self._current_identity()
        if self._identity is not None:
            self._is_damaged = os.path.lexists(self.damaged_marker)
            if not self._is_damaged:
                self._open()
        return self._table

    def _current_identity(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._file)
        except OSError:
            return None
        return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None

    def _open(self) -> None:
        try:
            self._table = self._connect()
        except BaseException:
            self.close()  # else each attempt would leave a connection
            raise

    def _connect(self) -> CacheTable:
        from syncd.store.cache_table import CacheTable

        if self._read_only:
            driver = self._opened.enter_context(open_foreign(self._file))
        else:
            driver = sqlite3.connect(
                self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._opened.callback(driver.close)
        table = CacheTable(driver)
        self._opened.callback(table.close)
        if not self._read_only:
            if not table.is_ready():
                with opening_lock(self._file, BUSY_SECONDS):
                    table.create()
            table.configure()
        return table

    def _mark_damaged(self) -> None:
        """Stop using the file, and mark it for removal when that is safe."""
        self.close()
        self._is_damaged = True
        if not self._read_only:
            with suppress(OSError):
                os.close(open_nofollow(self.damaged_marker, os.O_WRONLY | os.O_CREAT))
