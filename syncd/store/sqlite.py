"""What is special to SQLite: connecting to its files through SQLAlchemy, and the statements of its
dialect.

The driver starts no transaction of its own here (`isolation_level=None`): a single statement is
one, and `transaction` makes one of many; SQLAlchemy's own `commit` is never called. Source:
SQLAlchemy docs, "SQLite dialect", "Transactions with SQLite and the sqlite3 driver".
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, create_engine
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.expression import Executable

T = TypeVar("T")

BUSY_SECONDS = 30.0
POSITIONAL = dialect(paramstyle="qmark")
PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF")
MAX_VALUES = 500  # in one statement: SQLite refused more than 999 before 3.32

READ, WRITE = "BEGIN", "BEGIN IMMEDIATE"


def open_store(name: str) -> Connection:
    """Open the store's file, or `:memory:`. Raises sqlite3.Error."""
    driver = sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    driver.text_factory = _text
    try:
        for one in PRAGMAS:
            driver.execute(f"PRAGMA {one}").fetchall()
        return connected(driver)
    except BaseException:
        driver.close()
        raise


def _text(raw: bytes) -> str:
    """Decode text, also damaged text: the checksum of its row shows the damage, and the rows beside
    it can be read.
    """
    return raw.decode("utf-8", "replace")


_NEXT = threading.local()  # .driver: what the engine connects to next, in this thread
ENGINE = create_engine(
    "sqlite://", creator=lambda: _NEXT.driver, poolclass=NullPool
)  # one, so that statements are compiled once


def connected(driver: sqlite3.Connection) -> Connection:
    """Wrap the driver's connection for SQLAlchemy; `disconnect` closes both. Raises
    sqlite3.Error.
    """
    _NEXT.driver = driver
    with driver_errors():
        return ENGINE.connect()


def disconnect(connection: Connection) -> None:
    """Close the connection and the file."""
    connection.close()


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection below."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver


@contextmanager
def transaction(connection: Connection, begin: str = WRITE) -> Iterator[None]:
    """Run the block as one transaction, rolled back when it raises.

    WRITE takes the write lock at its start.

    SQLAlchemy's errors leave the block as the sqlite3 errors below them, whose codes distinguish
    damage from other errors.
    """
    with driver_errors():
        connection.exec_driver_sql(begin)
        try:
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            if driver_of(connection).in_transaction:  # SQLite ends it itself after some failures
                connection.exec_driver_sql("ROLLBACK")
            raise


@contextmanager
def unsynced(connection: Connection) -> Iterator[None]:
    """Let the commits of the block wait for the sync of a later one.

    A power cut may lose them until then, never the database or the order of the commits. Source:
    sqlite.org, "PRAGMA synchronous", NORMAL in WAL mode.
    """
    pragma(connection, "synchronous=NORMAL")
    try:
        yield
    finally:
        pragma(connection, "synchronous=FULL")


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise SQLAlchemy's errors of the block as the sqlite3 errors below them."""
    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from error


def pragma(connection: Connection, text: str) -> Any:
    """Return the first value that the pragma returns. Raises sqlite3.Error."""
    with driver_errors():
        result = connection.exec_driver_sql(f"PRAGMA {text}")
        row = result.first() if result.returns_rows else None  # some answer nothing
    return None if row is None else row[0]


def text_of(statement: Executable) -> str:
    """Return the statement as SQL text with `?` for each value, for statements that run thousands
    of times.
    """
    return str(statement.compile(dialect=POSITIONAL))  # type: ignore[attr-defined]


def fetch_all(connection: Connection, statement: str, values: tuple[Any, ...]) -> Sequence[Any]:
    """Return all rows of a query with `?` for each value.

    sqlite3 decodes the text itself, which is a quarter faster for thousands of rows. Where some of
    it is damaged, the query runs again with `_text`.
    """
    driver = driver_of(connection)
    driver.text_factory = str
    try:
        return connection.exec_driver_sql(statement, values).all()
    except OperationalError:
        pass
    finally:
        driver.text_factory = _text
    return connection.exec_driver_sql(statement, values).all()


def upsert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Store these rows, all of the same columns, each in the place of the one with the same primary
    key.
    """
    values = list(rows)
    if values:
        names = tuple(column.name for column in table.columns if column.name in values[0])
        text = _upsert_text(table, names)
        connection.exec_driver_sql(text, [tuple(row[name] for name in names) for row in values])


@cache
def _upsert_text(table: Table, names: tuple[str, ...]) -> str:
    """Return the statement for rows of these columns, in the table's order."""
    keys = {column.name for column in table.primary_key}
    new = insert(table).values(dict.fromkeys(names))
    changed = {name: new.excluded[name] for name in names if name not in keys}
    if not changed:
        return text_of(new.on_conflict_do_nothing())
    return text_of(new.on_conflict_do_update(index_elements=sorted(keys), set_=changed))


def in_parts(values: Iterable[T]) -> Iterator[Sequence[T]]:
    """Yield the values, as many at once as a statement takes."""
    every = list(values)
    for start in range(0, len(every), MAX_VALUES):
        yield every[start : start + MAX_VALUES]


__all__ = [
    "BUSY_SECONDS",
    "READ",
    "WRITE",
    "connected",
    "disconnect",
    "driver_errors",
    "driver_of",
    "in_parts",
    "insert",
    "open_store",
    "pragma",
    "text_of",
    "transaction",
    "unsynced",
    "upsert",
]
