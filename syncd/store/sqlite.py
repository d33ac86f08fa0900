"""What is special to SQLite: how a database file is connected to through SQLAlchemy, and how its errors are told apart.

SQLAlchemy starts no transaction of its own here (`isolation_level=None` at the driver): a statement alone is one, and
`transaction` is one of many. Source: SQLAlchemy docs, "SQLite dialect", "Serializable isolation / transactional DDL".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.expression import Executable

POSITIONAL = dialect(paramstyle="qmark")


def connected(driver: sqlite3.Connection) -> Connection:
    """The driver's connection, used through SQLAlchemy. Closing it closes the driver's."""
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def disconnect(connection: Connection) -> None:
    """Close the connection and the file."""
    connection.close()
    connection.engine.dispose()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """One transaction that takes the write lock at its start; nothing of it is kept when the block raises."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if driver_of(connection).in_transaction:  # SQLite ends it itself after some failures
            connection.exec_driver_sql("ROLLBACK")
        raise


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 connection below."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"this is no connection of sqlite3: {driver!r}")
    return driver


@contextmanager
def driver_errors() -> Iterator[None]:
    """Errors of SQLAlchemy leave the block as the sqlite3 errors below them, whose codes tell damage from trouble."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise


def text_of(statement: Executable) -> str:
    """The statement as SQL text with `?` for each value: for statements that run thousands of times with tuples."""
    return str(statement.compile(dialect=POSITIONAL))  # type: ignore[attr-defined]
