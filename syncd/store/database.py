"""One SQLite database that survives what happens to files: opened privately, healed by starting
anew, every library error translated.

Promises: one writer at a time (BEGIN IMMEDIATE), every commit on disk (WAL, synchronous=FULL), and
that a damaged, deleted or foreign file never ends in a traceback: what can't be read is set aside
under another name and an empty store takes its place. That costs time, never files: the store is a
cache and a ledger, never proof.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from syncd.errors import StoreError
from syncd.fastpath.record import next_counter
from syncd.store.access import try_to_share
from syncd.store.corruption import (
    FAILURES,
    Failure,
    calls_itself_broken,
    is_damage,
    looks_damaged,
    translated,
    words,
)
from syncd.store.foreign_store import copy_into
from syncd.store.location import (
    identity,
    is_open,
    make_private,
    opening_lock,
    refuse_network_filesystem,
)
from syncd.store.migrate import migrate, remove_replaced_files, version_of
from syncd.store.schema import VERSION
from syncd.store.sqlite import (
    BUSY_SECONDS,
    READ,
    WRITE,
    disconnect,
    driver_of,
    open_store,
    pragma,
    transaction,
)

T = TypeVar("T")

LOG = logging.getLogger("syncd.store")

BROKEN_KEPT = 3
ATTEMPTS = 3


class Database:
    """`read` and `write` run a function in one transaction; `notes` and the log say what was healed
    on the way.

    The function may be called again when the file is lost under it, so it decides from what it
    reads and from nothing else.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._copied_from: Path | None = None
        self.notes: list[str] = []
        self._guard = threading.RLock()
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._journal_identity: tuple[int, int] | None = None
        with self._guard:
            self._open()

    @classmethod
    def copy_of(cls, file: Path) -> Database:
        """A copy in memory for a command that only looks; an empty one where there is no store, or
        a damaged one.

        Raises StoreError.
        """
        made = cls(None)
        if identity(file) is None:
            return made
        made._copied_from, made._connection = file, open_store(":memory:")
        made.refresh_copy()
        return made

    def refresh_copy(self) -> None:
        """Copy what the file holds now; a database that is not a copy stays as it is.

        Raises StoreError.
        """
        if self._copied_from is None:
            return
        try:
            copy_into(driver_of(self._opened()), self._copied_from)
            version = self._once(version_of, READ)
            if version != VERSION:
                self._once(lambda connection: migrate(connection, version), WRITE)
        except FAILURES as error:
            self._heal(error, first=False)

    def read(self, query: Callable[[Connection], T]) -> T:
        """What `query` finds at one moment; others may write meanwhile. Raises StoreError."""
        return self._transaction(query, READ)

    def write(self, change: Callable[[Connection], T], counted: bool = True) -> T:
        """`change` is durable when this returns. Raises StoreError; nothing of it is kept then.

        `counter` is another number then, unless the change is not `counted`: what runs decide by is
        as it was.
        """
        if not counted:
            return self._transaction(change, WRITE)

        def and_counted(connection: Connection) -> T:
            result = change(connection)
            connection.exec_driver_sql(
                f"PRAGMA user_version = {next_counter(_counter(connection))}"
            )
            return result

        return self._transaction(and_counted, WRITE)

    def counter(self) -> int:
        """A number that every write changes: what was read while it stood still was true at one
        moment, and is until it moves.
        """
        return self._transaction(_counter, READ)

    def close(self) -> None:
        with self._guard:
            if self._connection is not None:
                disconnect(self._connection)
                self._connection = None

    def _transaction(self, work: Callable[[Connection], T], begin: str) -> T:
        with self._guard:
            for attempt in range(ATTEMPTS):
                if self._connection is None:
                    raise StoreError("the store is closed")
                if self._lost():
                    self._begin_anew()
                try:
                    result = self._once(work, begin)
                except FAILURES as error:
                    self._heal(error, first=attempt == 0)
                    continue
                if not self._lost():  # else it went into a file that nobody will find again
                    return result
            raise StoreError(
                f"the store {self.file} was lost {ATTEMPTS} times in a row",
                hint="find out who removes or damages it: only syncd may touch its state folder",
            )

    def _once(self, work: Callable[[Connection], T], begin: str) -> T:
        connection = self._opened()
        with transaction(connection, begin):
            return work(connection)

    def _opened(self) -> Connection:
        if self._connection is None:
            raise StoreError("the store is closed")
        return self._connection

    # --- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        """A store of this version's schema is open."""
        if self.file is None:
            self._connection = open_store(":memory:")
            self._once(lambda connection: migrate(connection, version_of(connection)), WRITE)
            return
        refuse_network_filesystem(self.file)
        self._open_file(self.file)
        for suffix in ("-wal", "-shm"):
            try_to_share(self._beside(suffix), self.file.parent)
        self._journal_identity = identity(self._beside("-wal"))

    def _open_file(self, file: Path) -> None:
        """Making, migrating and healing are done by one process at a time; opening what is ready
        waits for nobody.
        """
        try:
            if identity(file) is not None and self._is_ready():
                return
        except FAILURES as error:
            if not is_damage(error, self._looks_damaged) and not calls_itself_broken(error):
                raise self._translated(error) from error
        self.close()
        with opening_lock(file, BUSY_SECONDS):
            try:
                self._make_ready()
            except FAILURES as error:  # a second time, where it was called malformed
                if not is_damage(error, self._looks_damaged) and not calls_itself_broken(error):
                    raise self._translated(error) from error
                self._set_aside(error)
            else:
                return
            try:
                self._make_ready()
            except FAILURES as error:
                raise self._translated(error) from error

    def _is_ready(self) -> bool:
        """Is it open, and is there nothing to do to it? Nothing was written if not."""
        self._reach()
        version = self._once(version_of, READ)
        return version == VERSION and self._pragma("journal_mode") == "wal"

    def _make_ready(self) -> None:
        self._reach()
        version = self._once(version_of, READ)  # a newer one is refused before anything is written
        if self._pragma("journal_mode") != "wal":
            self._pragma("journal_mode=WAL")
        if version != VERSION:
            self._once(lambda connection: migrate(connection, version_of(connection)), WRITE)
            if self.file is not None:
                remove_replaced_files(self.file.parent)

    def _reach(self) -> None:
        if self.file is None:
            raise StoreError("this store has no file")
        self.close()
        make_private(self.file)
        self._identity = identity(self.file)
        self._connection = open_store(str(self.file))

    def _pragma(self, text: str) -> str:
        return str(pragma(self._opened(), text))

    def _translated(self, error: Failure) -> StoreError:
        self.close()
        return translated(error, self.file)

    # --- losing and healing ----------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.notes.append(text)
        LOG.warning("%s", text)

    def _lost(self) -> bool:
        return self.file is not None and identity(self.file) != self._identity

    def _begin_anew(self) -> None:
        """What stands in our file's place is open.

        Our journal must not be played into it: to SQLite it would look like its own.
        """
        self._say(
            f"the store {self.file} was removed or replaced while syncd was running; what stands there now is used from here on"
        )
        ours = self._journal_identity
        self.close()
        if self.file is not None and ours is not None:
            with opening_lock(self.file, BUSY_SECONDS):
                if identity(self._beside("-wal")) == ours and not is_open(self.file):
                    for suffix in ("-wal", "-shm"):
                        self._beside(suffix).unlink(missing_ok=True)
        self._open()

    def _heal(self, error: Failure, first: bool) -> None:
        """An empty store stands in the damaged one's place.

        Raises StoreError for what is no damage.

        A store that is sound when it is examined, and was called malformed only once, is opened
        again instead.
        """
        if self.file is None:
            self._heal_copy(error)
            return
        if not is_damage(error, self._looks_damaged):
            if not calls_itself_broken(error):
                raise translated(error, self.file) from error
            if first:
                self._open()
                return
        with opening_lock(self.file, BUSY_SECONDS):
            self._set_aside(error)
        self._open()

    def _heal_copy(self, error: Failure) -> None:
        """An empty store takes the place of a damaged copy.

        The file itself is the next run's to mend. Raises StoreError for the rest.
        """
        copy = self._opened()
        damaged = is_damage(error, lambda: looks_damaged(driver_of(copy))) or calls_itself_broken(
            error
        )
        if self._copied_from is None or not damaged:
            raise translated(error, self._copied_from) from error
        self._say(
            f"the store {self._copied_from} is damaged ({words(error)}); the next run sets it aside and begins a new one: nothing is removed"
        )
        self.close()
        self._copied_from = None
        self._open()

    def _beside(self, suffix: str) -> Path:
        return Path(f"{self.file}{suffix}")

    def _looks_damaged(self) -> bool:
        if self.file is None:
            return False
        self.close()
        try:
            connection = open_store(str(self.file))
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        try:
            return looks_damaged(driver_of(connection))
        finally:
            disconnect(connection)

    def _set_aside(self, error: Failure) -> None:
        """The unreadable file is kept under another name with its journal, if nobody else has done
        it meanwhile.
        """
        self.close()
        if self.file is None or identity(self.file) != self._identity:
            return
        why = words(error)
        aside = self.file.with_name(
            f"{self.file.name}.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        )
        try:
            self._beside("-shm").unlink(missing_ok=True)
            journal = self._beside("-wal")
            if journal.exists():
                journal.rename(aside.with_name(f"{aside.name}-wal"))
            self.file.rename(aside)
        except OSError as trouble:
            raise StoreError(
                f"the store {self.file} is damaged ({why}) and can't be set aside: {trouble.strerror}",
                hint="check who owns the state folder",
            ) from trouble
        old = sorted(
            file
            for file in self.file.parent.glob(f"{self.file.name}.broken-*")
            if not file.name.endswith("-wal")
        )
        for one in old[:-BROKEN_KEPT]:
            one.unlink(missing_ok=True)
            one.with_name(f"{one.name}-wal").unlink(missing_ok=True)
        self._say(
            f"the store was damaged ({why}); it was set aside as {aside.name} and a new one begun: equal files will be adopted, nothing is removed"
        )


def _counter(connection: Connection) -> int:
    return int(pragma(connection, "user_version"))
