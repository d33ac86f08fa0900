"""Reads a store that another user owns or a daemon is writing, and leaves its folder exactly as it
is.

A plain read-only connection does not: SQLite creates `-wal` and `-shm` beside the file, writes into
`-shm`, and leaves both. What was measured (SQLite 3.40, each as owner, root and a member of the
group) to touch nothing and to see every commit:

- no journal, or an empty one (the last writer closed it): `immutable=1`, checked afterwards against
  the file's times;
- a journal with its `-shm` (a daemon runs, or was killed): `readonly_shm=1`, with the locks of a
  running writer or without any;
- a journal alone (restored from a backup): a private copy of both files.

The content is copied into memory at once. A command may even write to the copy, as `plan` does: it
is lost when the command ends.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from syncd.errors import StoreError

MAX_ATTEMPTS = 20
PAUSE_SECONDS = 0.05
BUSY_SECONDS = 5.0


def copy_into(memory: sqlite3.Connection, file: Path) -> None:
    """Copy the content of the store at one moment.

    Raises sqlite3.Error, and StoreError where it may not be read.
    """
    _refuse_unreadable(file)
    for attempt in range(MAX_ATTEMPTS):
        try:
            with open_foreign(file) as source:
                before = _version_of(file)
                source.backup(memory)
            if _has_journal(file) or _version_of(file) == before:
                return
        except sqlite3.OperationalError:  # a writer made or removed its journal just now
            if attempt == MAX_ATTEMPTS - 1:
                raise
        time.sleep(PAUSE_SECONDS)
    raise StoreError(
        f"the store {file} was written all the time while it was read",
        id="store/busy-reading",
        hint="try again",
    )


@contextmanager
def open_foreign(file: Path) -> Iterator[sqlite3.Connection]:
    """Open the store for reading, in the way that leaves its folder as it is. Raises
    sqlite3.Error.
    """
    if not _has_journal(file):
        option = "immutable=1"
    elif os.path.exists(f"{file}-shm"):
        option = "readonly_shm=1"
    else:
        with tempfile.TemporaryDirectory(prefix="syncd-look-") as folder:
            yield from _closing(_copied(file, Path(folder)), "")
        return
    yield from _closing(file, f"&{option}")


def read_schema(file: Path) -> str | None:
    """Return the schema's version that the store says it has; None where there is no store.

    Raises OSError.
    """
    if not file.exists():
        return None
    try:
        with open_foreign(file) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def _closing(file: Path, options: str) -> Iterator[sqlite3.Connection]:
    name = f"file:{quote(str(file))}?mode=ro{options}"
    connection = sqlite3.connect(name, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _copied(file: Path, folder: Path) -> Path:
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{file}{suffix}", folder / f"{file.name}{suffix}")
    return folder / file.name


def _has_journal(file: Path) -> bool:
    try:
        return os.stat(f"{file}-wal").st_size > 0
    except FileNotFoundError:
        return False


def _version_of(file: Path) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _refuse_unreadable(file: Path) -> None:
    for name in (str(file), f"{file}-wal"):
        if os.path.exists(name) and not os.access(name, os.R_OK, effective_ids=True):
            raise StoreError(
                f"the store {name} can't be read: Permission denied",
                id="store/not-shared",
                hint="its owner shares it with state_group at the next start: "
                "restart the daemon, or run syncd sync as the owner",
            )
