"""One SQLite database that survives what happens to files: opened privately, healed by starting anew, every library error translated.

Promises: one writer at a time (BEGIN IMMEDIATE), every commit on disk (WAL, synchronous=FULL), and that a damaged, deleted or
foreign file never ends in a traceback: what can't be read is set aside under another name and an empty store takes its place.
That costs time, never files: the store is a cache and a ledger, never proof.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from syncd.errors import StoreError
from syncd.store.migrate import migrate, version_of
from syncd.store.quiet import next_counter

T = TypeVar("T")

BUSY_SECONDS = 30.0
BROKEN_KEPT = 3
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre", "ncpfs"}
DAMAGE = ("malformed", "not a database", "file is encrypted", "unsupported file format", "disk i/o error", "no such table", "no such column", "database schema is corrupt")


class Database:
    """`read` and `write` run a function in one transaction; `notes` says what was healed on the way."""

    def __init__(self, file: Path | None, say: Callable[[str], None] | None = None) -> None:
        self.file = file
        self.notes: list[str] = []
        self._say = say or self.notes.append
        self._guard = threading.RLock()
        self._engine: Engine | None = None
        self._inode: tuple[int, int] | None = None
        with self._guard:
            self._open_or_heal()

    def read(self, query: Callable[[Connection], T]) -> T:
        return self._transaction(query)

    def write(self, change: Callable[[Connection], T]) -> T:
        """`change` is durable when this returns, and `counter` is another number. Raises StoreError; nothing of it is kept then."""

        def counted(connection: Connection) -> T:
            result = change(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {next_counter(_counter(connection))}")
            return result

        return self._transaction(counted)

    def counter(self) -> int:
        """A number that every write changes: what was read while it stood still was true at one moment, and is until it moves."""
        return self._transaction(_counter)

    def close(self) -> None:
        with self._guard:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with self._guard:
            if self._replaced():
                self._say(f"the store {self.file} was removed or replaced while syncd was running; a new one is used from now on")
                self._open_or_heal()
            try:
                return self._once(work)
            except DBAPIError as error:
                if self.file is None or not _is_damage(error):
                    raise _translated(error, self.file) from error
                self._set_aside(error)
            try:
                self._open()
                return self._once(work)
            except DBAPIError as error:
                raise _translated(error, self.file) from error

    def _once(self, work: Callable[[Connection], T]) -> T:
        if self._engine is None:
            raise StoreError("the store is closed")
        with self._engine.begin() as connection:
            return work(connection)

    def _open_or_heal(self) -> None:
        try:
            self._open()
        except DBAPIError as error:
            if self.file is None or not _is_damage(error):
                raise _translated(error, self.file) from error
            self._set_aside(error)
            try:
                self._open()
            except DBAPIError as again:
                raise _translated(again, self.file) from again

    def _open(self) -> None:
        self.close()
        if self.file is not None:
            refuse_network(self.file)
            _make_private(self.file)
        name = str(self.file) if self.file is not None else ":memory:"
        engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: _connect(name))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with engine.begin() as connection:
                migrate(connection, version_of(connection))
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine
        if self.file is not None:
            try:
                found = os.stat(self.file)
            except OSError as error:
                raise StoreError(f"can't look at the store {self.file}: {error.strerror}", hint="check the disk of the state folder") from error
            self._inode = (found.st_dev, found.st_ino)

    def _replaced(self) -> bool:
        if self.file is None:
            return False
        try:
            found = os.stat(self.file)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreError(f"can't look at the store {self.file}: {error.strerror}", hint="check the disk of the state folder") from error
        return (found.st_dev, found.st_ino) != self._inode

    def _set_aside(self, error: DBAPIError) -> None:
        """The unreadable file is kept under another name; its journal goes with it."""
        if self.file is None:
            return
        self.close()
        aside = self.file.with_name(f"{self.file.name}.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        try:
            self.file.rename(aside)
        except OSError as trouble:
            raise StoreError(f"the store {self.file} is damaged ({error.orig}) and can't be set aside: {trouble.strerror}", hint="check who owns the state folder") from trouble
        for old in sorted(self.file.parent.glob(f"{self.file.name}.broken-*"))[:-BROKEN_KEPT]:
            old.unlink(missing_ok=True)
        self._say(f"the store was damaged ({error.orig}); it was set aside as {aside.name} and a new one begun: equal files will be adopted, nothing is removed")


def _counter(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF", "secure_delete=OFF"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(file: Path) -> None:
    """The file exists and only its owner can read it; SQLite gives its journal the same mode."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.chmod(file, 0o600)
    except OSError as error:
        raise StoreError(f"can't open the store {file}: {error.strerror}", hint="syncd must own its state folder and be able to write there") from error


def refuse_network(file: Path) -> None:
    """Raises StoreError on a file system whose locks SQLite can't trust. Source: sqlite.org "How To Corrupt", 2.1."""
    best, kind = "", ""
    target = os.path.realpath(file)
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        if (target == mount or target.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    if kind in NETWORK:
        raise StoreError(f"the state folder {file.parent} is on a network file system ({kind}), where a SQLite store gets damaged", hint="set state: to a folder on a local disk")


def _is_damage(error: DBAPIError) -> bool:
    text = str(error.orig).lower()
    return isinstance(error.orig, sqlite3.DatabaseError) and any(word in text for word in DAMAGE)


def _translated(error: DBAPIError, file: Path | None) -> StoreError:
    text = str(error.orig)
    hints = {
        "locked": "another syncd (or a backup) holds it; try again",
        "full": "free some space on the disk of the state folder; the next run goes on by itself",
        "readonly": "the state folder must be writable by the user who runs syncd",
        "unable to open": "check that the state folder exists and who owns it",
    }
    return StoreError(f"the store {file or 'in memory'}: {text}", hint=next((hint for word, hint in hints.items() if word in text), None))
