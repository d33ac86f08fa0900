"""Which failures of SQLite mean a damaged file, which mean a passing trouble, and what each is
called.

What SQLite only calls an error (a table or column that is not there, a constraint that our own code
can't break) is damage when the file itself shows it: its pages don't fit together, or its tables
are not the ones that this version made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from syncd.errors import StoreError
from syncd.store.location import holders
from syncd.store.schema import statements


class DamagedError(Exception):
    """The file does not hold what a store holds."""


Failure: TypeAlias = (
    sqlite3.Error | DamagedError | UnicodeDecodeError
)  # the last where SQLite's own message quotes damaged text
FAILURES = (sqlite3.Error, DamagedError, UnicodeDecodeError)

# primary result codes, sqlite.org/rescode.html; an extended code's lowest byte is its primary one
NO_STORE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
TROUBLE = {
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
# a disk that can't give it back has lost it; but a read may fail once, and losing the ledger for
# that would cost the knowledge of what is ours
BROKEN_READS = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}

HINTS = {
    sqlite3.SQLITE_BUSY: "wait for it and try again",
    sqlite3.SQLITE_FULL: "free some space on the disk of the state folder; the next run goes on by itself",
    sqlite3.SQLITE_READONLY: "the state folder must be writable by the user who runs syncd",
    sqlite3.SQLITE_CANTOPEN: "check that the state folder exists, can be written and has space",
    sqlite3.SQLITE_IOERR: "check the disk of the state folder",
}


def is_damage(error: Failure, examine: Callable[[], bool]) -> bool:
    """`examine` looks into the file; it is only asked where the error alone doesn't tell."""
    if not isinstance(error, sqlite3.Error):
        return True
    code = _code(error)
    if code is not None and code & 0xFF in NO_STORE:
        return True
    return (code is None or code in BROKEN_READS or code & 0xFF not in TROUBLE) and examine()


def calls_itself_broken(error: Failure) -> bool:
    """Does SQLite call the file malformed?

    It says so too where a read failed that may succeed the next time (since 3.34, for EIO).
    """
    return not isinstance(error, sqlite3.Error) or (_code(error) or 0) & 0xFF in {
        *NO_STORE,
        sqlite3.SQLITE_CORRUPT,
    }


def looks_damaged(connection: sqlite3.Connection) -> bool:
    """The file's pages can't be read or don't fit together, or its tables and indexes are not this
    version's.
    """
    try:
        if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            return True
        for table, (columns, indexes) in _expected().items():
            there = _shape(connection, table)
            if there[0] != columns or not indexes <= there[1]:
                return True
    except UnicodeDecodeError:
        return True
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        return code in BROKEN_READS or code & 0xFF not in TROUBLE
    return False


def _expected() -> dict[str, tuple[list[str], set[str]]]:
    """Each table's columns, in their order, and its indexes, as a new store has them."""
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
    return columns, {
        row[1] for row in connection.execute(f"PRAGMA index_list('{table}')") if row[3] == "c"
    }  # made by a statement, not by a key


def words(error: Failure) -> str:
    """What the library said."""
    return str(error)


def translated(error: Failure, file: Path | None) -> StoreError:
    """The library's error in words for whoever acts next."""
    if not isinstance(error, sqlite3.Error):
        return StoreError(
            f"the store {file or 'in memory'} is damaged: {error}",
            hint="move it away; syncd begins a new one, and equal files are adopted",
        )
    code = (_code(error) or 0) & 0xFF
    text = words(error)
    if code == sqlite3.SQLITE_BUSY and file is not None:
        who = ", ".join(holders(file)) or "another process"
        text = f"{who} holds it ({text})"
    return StoreError(f"the store {file or 'in memory'}: {text}", hint=HINTS.get(code))


def _code(error: sqlite3.Error) -> int | None:
    found = getattr(error, "sqlite_errorcode", None)
    return found if isinstance(found, int) else None
