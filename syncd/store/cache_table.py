"""The table of `cache.db`: blob id, content and when it was last used.

Holds the statements only; small_blobs.py opens, locks and removes the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence, Set
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateTable

from syncd.store.sqlite import (
    connected,
    disconnect,
    driver_errors,
    driver_of,
    pragma,
    text_of,
    transaction,
)

CONTENT = Table(
    "content",
    MetaData(),
    Column("blob_id", LargeBinary, primary_key=True),  # 20 bytes
    Column("used_at", Float, nullable=False),  # Unix seconds
    Column("content", LargeBinary, nullable=False),
)
PRAGMAS = ("auto_vacuum=INCREMENTAL", "journal_mode=WAL")
SHRINK = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)"

_ONE = CONTENT.c.blob_id == bindparam("id")
_NEW = insert(CONTENT)
_VALUES = {"used_at": _NEW.excluded.used_at, "content": _NEW.excluded.content}
CREATE = str(CreateTable(CONTENT, if_not_exists=True))
FIND = text_of(select(CONTENT.c.used_at).where(_ONE))
READ = text_of(select(CONTENT.c.used_at, CONTENT.c.content).where(_ONE))
PUT = text_of(_NEW.on_conflict_do_update(index_elements=["blob_id"], set_=_VALUES))
TOUCH = text_of(CONTENT.update().values(used_at=bindparam("now")).where(_ONE))
DELETE = text_of(CONTENT.delete().where(_ONE))
IDS = text_of(select(CONTENT.c.blob_id).order_by(CONTENT.c.blob_id))
SIZES = text_of(select(CONTENT.c.blob_id, CONTENT.c.used_at, func.length(CONTENT.c.content)))


class CacheTable:
    """The table behind one connection, for one thread at a time. Every method raises
    sqlite3.Error.
    """

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._connection: Connection = connected(driver)
        # For queries that are made for thousands of contents, one by one.
        self._driver = driver_of(self._connection)

    def close(self) -> None:
        """Close the connection."""
        disconnect(self._connection)

    def is_ready(self) -> bool:
        """Return whether the file has the table and the journal mode that it needs."""
        made = pragma(self._connection, f"table_info('{CONTENT.name}')") is not None
        return made and pragma(self._connection, "journal_mode") == "wal"

    def create(self) -> None:
        """Create the table and set the journal mode.

        For one process at a time: SQLite does not wait when two processes change the mode.
        """
        with driver_errors():
            for one in PRAGMAS:
                pragma(self._connection, one)
            self._connection.exec_driver_sql(CREATE)

    def configure(self) -> None:
        """Set what SQLite stores with the connection alone."""
        pragma(self._connection, "synchronous=NORMAL")
        pragma(self._connection, "trusted_schema=OFF")

    def has(self, blob: bytes) -> bool:
        """Return whether there is a row for the blob."""
        return self._driver.execute(FIND, (blob,)).fetchone() is not None

    def read(self, blob: bytes) -> tuple[float, bytes] | None:
        """Return when the blob was last used, and its content; None for no row, or one with other
        types.
        """
        row = self._driver.execute(READ, (blob,)).fetchone()
        if row is None or not isinstance(row[0], float) or not isinstance(row[1], bytes):
            return None
        return row[0], row[1]

    def touch(self, blob: bytes, now: float) -> None:
        """Set when the blob was last used, in Unix seconds."""
        with driver_errors():
            self._connection.exec_driver_sql(TOUCH, (now, blob))

    def sync(self, blob: bytes, now: float) -> None:
        """Set when the blob was last used, and sync that and every transaction before it to disk.

        Source: sqlite.org, "Write-Ahead Logging", and "PRAGMA synchronous".
        """
        pragma(self._connection, "synchronous=FULL")
        try:
            self.touch(blob, now)
        finally:
            pragma(self._connection, "synchronous=NORMAL")

    def put(self, contents: Sequence[tuple[bytes, bytes]], now: float) -> None:
        """Store these ids and contents, in one transaction."""
        with driver_errors(), transaction(self._connection):
            self._connection.exec_driver_sql(
                PUT, [(blob, now, content) for blob, content in contents]
            )

    def delete(self, blobs: Sequence[bytes]) -> None:
        """Delete the rows of these blobs, in one transaction."""
        with driver_errors(), transaction(self._connection):
            for blob in blobs:
                self._connection.exec_driver_sql(DELETE, (blob,))

    def ids(self) -> list[bytes]:
        """Return the id of each row, in order."""
        return [blob for (blob,) in self._rows(IDS) if isinstance(blob, bytes)]

    def evict(self, in_use: Set[bytes], before: float, after: float) -> int:
        """Delete the rows that are not in use and were not last used between the two times; return
        the bytes freed.

        The file shrinks by them.
        """
        found = [row for row in self._rows(SIZES) if row[0] not in in_use]
        old = [
            (blob, size) for blob, used_at, size in found if not _between(before, used_at, after)
        ]
        if old:
            self.delete([blob for blob, _ in old])
            driver_of(self._connection).executescript(SHRINK)
        return sum(size for _, size in old if isinstance(size, int))

    def _rows(self, statement: str) -> list[Any]:
        with driver_errors():
            return list(self._connection.exec_driver_sql(statement).all())


def _between(before: float, found: Any, after: float) -> bool:
    return isinstance(found, float) and before <= found <= after
