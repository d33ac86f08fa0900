"""Tells which failures of SQLite mean a damaged file and which are transient, and translates both.

What SQLite only calls an error (a missing table or column, a constraint that our own code cannot
violate) is damage when the file itself shows it: its pages do not fit together, or its tables are
not the ones of this version.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from syncd.errors import StoreError
from syncd.store.location import lock_holders
from syncd.store.schema import statements


class DamagedError(Exception):
    """The file does not hold what a store holds."""


Failure: TypeAlias = (
    sqlite3.Error | DamagedError | UnicodeDecodeError
)  # the last where SQLite's own message quotes damaged text
FAILURES = (sqlite3.Error, DamagedError, UnicodeDecodeError)

# primary result codes, sqlite.org/rescode.html; an extended code's lowest byte is its primary one
NOT_A_DATABASE_CODES = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
TRANSIENT_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_IOERR,
}
# What the disk cannot return is lost. But a read may fail once, and setting the ledger aside for
# that would lose which files are syncd's.
FAILED_READ_CODES = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}

HINTS = {
    sqlite3.SQLITE_BUSY: "wait for it and try again",
    sqlite3.SQLITE_FULL: "free some space on the disk of the state folder; the next run continues",
    sqlite3.SQLITE_READONLY: "the state folder must be writable by the user who runs syncd",
    sqlite3.SQLITE_CANTOPEN: "check that the state folder exists, can be written and has space",
    sqlite3.SQLITE_IOERR: "check the disk of the state folder",
}
IDS = {
    sqlite3.SQLITE_BUSY: "store/busy",
    sqlite3.SQLITE_FULL: "store/disk-full",
    sqlite3.SQLITE_READONLY: "store/read-only",
    sqlite3.SQLITE_CANTOPEN: "store/cannot-open",
    sqlite3.SQLITE_IOERR: "store/disk-failed",
}


def is_damage(error: Failure, examine: Callable[[], bool]) -> bool:
    """Return whether the failure means damage.

    `examine` reads the file, only where the error alone does not say.
    """
    if not isinstance(error, sqlite3.Error):
        return True
    code = _code(error)
    if code is not None and code & 0xFF in NOT_A_DATABASE_CODES:
        return True
    return (
        code is None or code in FAILED_READ_CODES or code & 0xFF not in TRANSIENT_CODES
    ) and examine()


def is_malformed(error: Failure) -> bool:
    """Return whether SQLite calls the file malformed.

    It also does where a read failed that may succeed the next time (since 3.34, for EIO).
    """
    return not isinstance(error, sqlite3.Error) or (_code(error) or 0) & 0xFF in {
        *NOT_A_DATABASE_CODES,
        sqlite3.SQLITE_CORRUPT,
    }


def is_file_damaged(connection: sqlite3.Connection) -> bool:
    """Return whether the pages do not fit together, or tables and indexes are not this
    version's.
    """
    try:
        if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            return True
        for table, (columns, indexes) in _expected().items():
            found = _shape(connection, table)
            if found[0] != columns or not indexes <= found[1]:
                return True
    except UnicodeDecodeError:
        return True
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        return code in FAILED_READ_CODES or code & 0xFF not in TRANSIENT_CODES
    return False


def _expected() -> dict[str, tuple[list[str], set[str]]]:
    """Return each table's columns, in order, and its indexes, as a new store has them."""
    with closing(sqlite3.connect(":memory:")) as new:
        for statement in statements():
            new.execute(statement)
        return {
            name: _shape(new, name)
            for (name,) in new.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
        }


def _shape(connection: sqlite3.Connection, table: str) -> tuple[list[str], set[str]]:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info('{table}')")]
    indexes = connection.execute(f"PRAGMA index_list('{table}')")
    # "c": made by a statement, not by a key.
    return columns, {row[1] for row in indexes if row[3] == "c"}


def driver_text(error: Failure) -> str:
    """Return what the library said."""
    return str(error)


def store_error(error: Failure, file: Path | None) -> StoreError:
    """Return the library's error as a StoreError with a hint."""
    if not isinstance(error, sqlite3.Error):
        return StoreError(
            f"the store {file or 'in memory'} is damaged: {error}",
            id="store/damaged",
            hint="move it away; syncd creates a new one, and adopts files that are equal",
        )
    code = (_code(error) or 0) & 0xFF
    text = driver_text(error)
    if code == sqlite3.SQLITE_BUSY and file is not None:
        who = ", ".join(lock_holders(file)) or "another process"
        text = f"{who} holds it ({text})"
    return StoreError(
        f"the store {file or 'in memory'}: {text}", id=IDS.get(code), hint=HINTS.get(code)
    )


def _code(error: sqlite3.Error) -> int | None:
    found = getattr(error, "sqlite_errorcode", None)
    return found if isinstance(found, int) else None
