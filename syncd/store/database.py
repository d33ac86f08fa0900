"""One SQLite database that survives what happens to its file: it is private, repaired by starting
anew, and its errors are translated.

There is one writer at a time (BEGIN IMMEDIATE), and every commit is on disk (WAL,
synchronous=FULL), except those of caches. A damaged, deleted or foreign file never ends in a
traceback: a file that cannot be read is set aside under another name, and an empty store takes its
place. That costs time, never files: the store is a cache and a ledger, never proof.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from syncd.errors import StoreError
from syncd.fastpath.record import next_counter
from syncd.store.access import try_share_with_group
from syncd.store.corruption import (
    FAILURES,
    Failure,
    driver_text,
    is_damage,
    is_file_damaged,
    is_malformed,
    store_error,
)
from syncd.store.foreign_store import copy_into
from syncd.store.location import (
    file_identity,
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
    unsynced,
)

T = TypeVar("T")

LOG = logging.getLogger("syncd.store")

BROKEN_FILES_KEPT = 3
MAX_ATTEMPTS = 3


class Database:
    """Runs functions in transactions (`read`, `write`); `notes` and the log name what was repaired.

    A function may be called again when the file is lost during it, so it decides from what it reads
    and from nothing else.
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
        """Return a copy in memory, for a command that only reads; an empty one for no store, or a
        damaged one.

        Raises StoreError.
        """
        made = cls(None)
        if file_identity(file) is None:
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
            self._repair(error, first=False)

    def read(self, query: Callable[[Connection], T]) -> T:
        """Return what `query` finds at one moment; other processes may write meanwhile.

        Raises StoreError.
        """
        return self._transaction(query, READ)

    def write(
        self, change: Callable[[Connection], T], counted: bool = True, synced: bool = True
    ) -> T:
        """Run `change`, durably. Raises StoreError; nothing of the change is kept then.

        `counter` changes, unless the change is not `counted`: what runs decide by is then the same
        as before. A power cut may lose a change that is not `synced`, until the next one that is.
        """
        if not counted:
            return self._transaction(change, WRITE, synced)

        def change_and_count(connection: Connection) -> T:
            result = change(connection)
            connection.exec_driver_sql(
                f"PRAGMA user_version = {next_counter(_counter(connection))}"
            )
            return result

        return self._transaction(change_and_count, WRITE, synced)

    def counter(self) -> int:
        """Return a number that every counted write changes.

        What was read while it was the same is true as long as it is the same.
        """
        return self._transaction(_counter, READ)

    def is_sound(self) -> bool:
        """Return whether pages, tables and indexes are as SQLite and this version expect them."""
        with self._guard:
            return not is_file_damaged(driver_of(self._opened()))

    def close(self) -> None:
        """Close the connection and the file."""
        with self._guard:
            if self._connection is not None:
                disconnect(self._connection)
                self._connection = None

    def _transaction(self, work: Callable[[Connection], T], begin: str, synced: bool = True) -> T:
        with self._guard:
            for attempt in range(MAX_ATTEMPTS):
                if self._connection is None:
                    raise StoreError("the store is closed")
                if self._is_replaced():
                    self._reopen_replaced()
                try:
                    result = self._once(work, begin, synced)
                except FAILURES as error:
                    self._repair(error, first=attempt == 0)
                    continue
                if not self._is_replaced():  # else the result is in a file that is gone
                    return result
            raise StoreError(
                f"the store {self.file} was lost {MAX_ATTEMPTS} times in a row",
                id="store/lost-again",
                hint="find out who removes or damages it: only syncd may touch its state folder",
            )

    def _once(self, work: Callable[[Connection], T], begin: str, synced: bool = True) -> T:
        connection = self._opened()
        with nullcontext() if synced else unsynced(connection), transaction(connection, begin):
            return work(connection)

    def _opened(self) -> Connection:
        if self._connection is None:
            raise StoreError("the store is closed")
        return self._connection

    # --- opening ----------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open a store with this version's schema."""
        if self.file is None:
            self._connection = open_store(":memory:")
            self._once(lambda connection: migrate(connection, version_of(connection)), WRITE)
            return
        refuse_network_filesystem(self.file)
        self._open_file(self.file)
        for suffix in ("-wal", "-shm"):
            try_share_with_group(self._sibling(suffix), self.file.parent)
        self._journal_identity = file_identity(self._sibling("-wal"))

    def _open_file(self, file: Path) -> None:
        """Open the file.

        One process at a time creates, migrates and repairs it; a file that is ready is opened
        without waiting.
        """
        try:
            if file_identity(file) is not None and self._is_ready():
                return
        except FAILURES as error:
            if not is_damage(error, self._examine_damage) and not is_malformed(error):
                raise self._translated(error) from error
        self.close()
        with opening_lock(file, BUSY_SECONDS):
            try:
                self._prepare()
            except FAILURES as error:  # a second time, where it was called malformed
                if not is_damage(error, self._examine_damage) and not is_malformed(error):
                    raise self._translated(error) from error
                self._set_aside(error)
            else:
                return
            try:
                self._prepare()
            except FAILURES as error:
                raise self._translated(error) from error

    def _is_ready(self) -> bool:
        """Open the file, and return whether there is nothing to do to it. Nothing is written."""
        self._connect()
        version = self._once(version_of, READ)
        return version == VERSION and self._pragma("journal_mode") == "wal"

    def _prepare(self) -> None:
        self._connect()
        version = self._once(version_of, READ)  # a newer one is refused before anything is written
        if self._pragma("journal_mode") != "wal":
            self._pragma("journal_mode=WAL")
        if version != VERSION:
            self._once(lambda connection: migrate(connection, version_of(connection)), WRITE)
            if self.file is not None:
                remove_replaced_files(self.file.parent)

    def _connect(self) -> None:
        if self.file is None:
            raise StoreError("this store has no file")
        self.close()
        make_private(self.file)
        self._identity = file_identity(self.file)
        self._connection = open_store(str(self.file))

    def _pragma(self, text: str) -> str:
        return str(pragma(self._opened(), text))

    def _translated(self, error: Failure) -> StoreError:
        self.close()
        return store_error(error, self.file)

    # --- losing and healing -----------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        self.notes.append(text)
        LOG.warning("%s", text)

    def _is_replaced(self) -> bool:
        return self.file is not None and file_identity(self.file) != self._identity

    def _reopen_replaced(self) -> None:
        """Open the file that has taken the place of ours.

        Our journal must not be applied to it: to SQLite it would look like that file's own.
        """
        self._warn(
            f"the store {self.file} was removed or replaced while syncd was running; "
            "the file that is there now is used from here on"
        )
        own_journal = self._journal_identity
        self.close()
        if self.file is not None and own_journal is not None:
            with opening_lock(self.file, BUSY_SECONDS):
                if file_identity(self._sibling("-wal")) == own_journal and not is_open(self.file):
                    for suffix in ("-wal", "-shm"):
                        self._sibling(suffix).unlink(missing_ok=True)
        self._open()

    def _repair(self, error: Failure, first: bool) -> None:
        """Put an empty store in the place of a damaged one. Raises StoreError for other errors.

        A store that is sound when it is examined, and was called malformed only once, is opened
        again instead.
        """
        if self.file is None:
            self._repair_copy(error)
            return
        if not is_damage(error, self._examine_damage):
            if not is_malformed(error):
                raise store_error(error, self.file) from error
            if first:
                self._open()
                return
        with opening_lock(self.file, BUSY_SECONDS):
            self._set_aside(error)
        self._open()

    def _repair_copy(self, error: Failure) -> None:
        """Put an empty store in the place of a damaged copy; the next run repairs the file.

        Raises StoreError for other errors.
        """
        copy = self._opened()
        damaged = is_damage(error, lambda: is_file_damaged(driver_of(copy))) or is_malformed(error)
        if self._copied_from is None or not damaged:
            raise store_error(error, self._copied_from) from error
        self._warn(
            f"the store {self._copied_from} is damaged ({driver_text(error)}); "
            "the next run sets it aside and creates a new one: nothing is removed"
        )
        self.close()
        self._copied_from = None
        self._open()

    def _sibling(self, suffix: str) -> Path:
        return Path(f"{self.file}{suffix}")

    def _examine_damage(self) -> bool:
        if self.file is None:
            return False
        self.close()
        try:
            connection = open_store(str(self.file))
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        try:
            return is_file_damaged(driver_of(connection))
        finally:
            disconnect(connection)

    def _set_aside(self, error: Failure) -> None:
        """Rename the unreadable file and its journal, unless another process has done so
        meanwhile.
        """
        self.close()
        if self.file is None or file_identity(self.file) != self._identity:
            return
        cause = driver_text(error)
        time_text = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self.file.with_name(f"{self.file.name}.broken-{time_text}")
        try:
            self._sibling("-shm").unlink(missing_ok=True)
            journal = self._sibling("-wal")
            if journal.exists():
                journal.rename(aside.with_name(f"{aside.name}-wal"))
            self.file.rename(aside)
        except OSError as failure:
            raise StoreError(
                f"the store {self.file} is damaged ({cause}) and can't be set aside: "
                f"{failure.strerror}",
                id="store/cannot-set-aside",
                hint="check who owns the state folder",
            ) from failure
        self._remove_old_broken_files(self.file)
        self._warn(
            f"the store was damaged ({cause}); it was set aside as {aside.name} and a new one "
            "created: equal files will be adopted, nothing is removed"
        )

    @staticmethod
    def _remove_old_broken_files(file: Path) -> None:
        """Remove the oldest files that were set aside."""
        found = file.parent.glob(f"{file.name}.broken-*")
        broken = sorted(path for path in found if not path.name.endswith("-wal"))
        for path in broken[:-BROKEN_FILES_KEPT]:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}-wal").unlink(missing_ok=True)


def _counter(connection: Connection) -> int:
    return int(pragma(connection, "user_version"))
