"""Small contents of the blob cache, in one table of a second SQLite file: `STATE/cache.db`.

A first sync of thousands of small files would otherwise make a cache file for each of them. Contents are written in
batches with `synchronous=NORMAL`: a power cut may lose the last ones, never the database. Every reader verifies what it
gets by its git id, so the file may be damaged, removed or lost at any time; that costs a download. A process that finds
it damaged stops using it, and the file is removed once no process uses the cache (`remove_damaged`).

Leaves to blobs.py: the lock that keeps others from evicting what a run uses.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Float, LargeBinary, MetaData, Table, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateTable

from syncd.objects import is_object_id
from syncd.store.look import opened
from syncd.store.place import make_private
from syncd.store.sqlite import (
    close,
    connected,
    driver_errors,
    driver_of,
    text_of,
    transaction,
)

T = TypeVar("T")

BUSY_SECONDS = 30.0
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
PRAGMAS = ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF")

CONTENT = Table(
    "content",
    MetaData(),
    Column("blob_id", LargeBinary, primary_key=True),
    Column("used_at", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
_ONE = CONTENT.c.blob_id == bindparam("id")
MAKE = str(CreateTable(CONTENT, if_not_exists=True))
FIND = text_of(select(CONTENT.c.used_at).where(_ONE))
READ = text_of(select(CONTENT.c.used_at, CONTENT.c.content).where(_ONE))
_NEW = insert(CONTENT)
_CHANGED = {"used_at": _NEW.excluded.used_at, "content": _NEW.excluded.content}
PUT = text_of(_NEW.on_conflict_do_update(index_elements=["blob_id"], set_=_CHANGED))
TOUCH = text_of(CONTENT.update().values(used_at=bindparam("now")).where(_ONE))
DELETE = text_of(CONTENT.delete().where(_ONE))
IDS = text_of(select(CONTENT.c.blob_id).order_by(CONTENT.c.blob_id))
SIZES = text_of(select(CONTENT.c.blob_id, CONTENT.c.used_at, func.length(CONTENT.c.content)))


class SmallBlobs:
    """The table of one cache. Safe to use from many threads and processes; the file is opened at the first use.

    With `only_read`, nothing is made or changed, beside the file either.
    """

    def __init__(self, file: Path, only_read: bool = False) -> None:
        self._file, self._only_read = file, only_read
        self._guard = RLock()
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._opened = ExitStack()
        self._is_damaged = False

    def close(self) -> None:
        """Give up the connection; the next use opens the file again."""
        with self._guard, suppress(sqlite3.Error):
            self._connection = None
            self._opened.close()

    def has(self, blob: str) -> bool:
        """Whether a content is stored under this id; it may turn out damaged."""
        return bool(self._rows(FIND, blob))

    def read(self, blob: str, now: float, unused_since: float) -> bytes | None:
        """The content as stored, unverified; None when it is not here. `used_at` becomes `now` where it is before `unused_since`."""
        found = self._rows(READ, blob)
        if not found or not isinstance(found[0][1], bytes):
            return None
        used_at, content = found[0]
        if not (isinstance(used_at, float) and used_at >= unused_since):
            self._change(TOUCH, [(now, bytes.fromhex(blob))])
        return bytes(content)

    def drop(self, blob: str) -> None:
        """Forget the content. Where the disk refuses that, it is found, verified and passed over again."""
        if is_object_id(blob):
            self._change(DELETE, [(bytes.fromhex(blob),)])

    def ids(self) -> list[str]:
        """The id of every stored content, in order."""
        rows: list[Any] = self._ask(lambda connection: _all(connection, IDS), [])
        return [row[0].hex() for row in rows if isinstance(row[0], bytes)]

    def write(self, contents: Sequence[tuple[str, bytes]], now: float) -> bool:
        """Store these (id, content) in one transaction; False where the file is damaged. Raises sqlite3.Error when the disk refuses."""
        values = [(bytes.fromhex(blob), now, content) for blob, content in contents]

        def put(connection: Connection) -> bool:
            with transaction(connection):
                connection.exec_driver_sql(PUT, values)
            return True

        with self._guard:
            if not self._is_damaged and self._connection is None:
                self._open(make=True)
            return self._ask(put, False, passing=False)

    def evict(self, in_use: Set[str], before: float, after: float) -> int:
        """Remove what is not in use and was last used before `before`, or after `after` by a clock set back since. The bytes freed."""

        def remove(connection: Connection) -> int:
            found = _all(connection, SIZES)
            old = [row for row in found if not _is_fresh(row[1], before, after) and _hex(row[0]) not in in_use]
            with transaction(connection):
                for identity, _, _ in old:
                    connection.exec_driver_sql(DELETE, (identity,))
            if old:
                driver_of(connection).executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
            return sum(size for _, _, size in old if isinstance(size, int))

        return self._ask(remove, 0, passing=False)

    def remove_damaged(self) -> None:
        """Remove a file that was found damaged. Only for a caller who knows that no process uses the cache. Raises OSError."""
        with self._guard:
            if not os.path.lexists(self._mark):
                return
            self.close()
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._file}{suffix}")
            os.unlink(self._mark)
            self._is_damaged = False

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _mark(self) -> str:
        return f"{self._file}.damaged"

    def _rows(self, statement: str, blob: str) -> list[Any]:
        if not is_object_id(blob):  # from a history that the disk has damaged
            return []
        values = (bytes.fromhex(blob),)
        return self._ask(lambda connection: _all(connection, statement, values), [])

    def _change(self, statement: str, values: list[tuple[Any, ...]]) -> None:
        """Change rows where that is possible; what stays as it was costs time only."""
        if not self._only_read:
            self._ask(lambda connection: connection.exec_driver_sql(statement, values), None)

    def _ask(self, question: Callable[[Connection], T], otherwise: T, passing: bool = True) -> T:
        """What the table answers; `otherwise` where there is no usable file.

        Raises sqlite3.Error for trouble that is no damage, unless it may be passed over.
        """
        with self._guard:
            try:
                with driver_errors():
                    connection = self._reach()
                    return otherwise if connection is None else question(connection)
            except sqlite3.Error as error:
                if _is_damage(error):
                    self._give_up()
                elif not passing:
                    raise
            return otherwise

    def _reach(self) -> Connection | None:
        """The connection to the file that is there now; None where there is none, or a damaged one."""
        if self._is_damaged:
            return None
        if self._connection is None or _identity(self._file) != self._identity:
            self._open(make=False)
        return self._connection

    def _open(self, make: bool) -> None:
        """Connect to the file. Raises sqlite3.Error and StoreError."""
        self.close()
        if make:
            make_private(self._file)
        self._identity = _identity(self._file)
        if self._identity is None or os.path.lexists(self._mark):
            self._is_damaged = self._identity is not None
            return
        if self._only_read:
            driver = self._opened.enter_context(opened(self._file))
        else:
            driver = sqlite3.connect(
                self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._opened.callback(driver.close)
            _prepare(driver)
        self._connection = connected(driver)
        self._opened.callback(close, self._connection)

    def _give_up(self) -> None:
        """The file is damaged: it is not used any more, and removed when that is safe."""
        self.close()
        self._is_damaged = True
        if not self._only_read:
            with suppress(OSError):
                os.close(os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def _prepare(driver: sqlite3.Connection) -> None:
    for pragma in PRAGMAS:
        driver.execute(f"PRAGMA {pragma}").fetchall()
    driver.execute(MAKE)


def _all(connection: Connection, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    return list(connection.exec_driver_sql(statement, values).all())


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in DAMAGE


def _is_fresh(used_at: Any, before: float, after: float) -> bool:
    return isinstance(used_at, float) and before <= used_at <= after


def _hex(identity: Any) -> str:
    return identity.hex() if isinstance(identity, bytes) else ""
