"""Brings a database to this version's schema, in one transaction.

Alembic is loaded only for an older one.

An empty database gets the present schema at once, and a test keeps it equal to the result of the
migrations: loading Alembic would cost a first sync more than half of what the rest of its start
does.

The number of the schema is stored twice, in Alembic's table and in the file's header, so that one
damaged bit is not taken for a newer syncd.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select

from syncd.errors import StoreError
from syncd.store.corruption import DamagedError
from syncd.store.schema import ALEMBIC_VERSION, VERSION, statements
from syncd.store.sqlite import pragma

# "sy" and the schema's number: SQLite's application_id, which file(1) shows too
APPLICATION_ID_BASE = 0x73790000
HEADER_BYTES, APPLICATION_ID = 100, slice(68, 72)  # sqlite.org "Database File Format", 1.3
TABLE_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table'"
UNSTAMPED_VERSION = "0001"  # the one schema whose header carried no number


REPLACED_FILES = ("spent.json", "expiries.json", "holds.json", "webhook.json", "quick.json")


def remove_replaced_files(state: Path) -> None:
    """Remove the small files of earlier versions whose facts are tables since 0005.

    Their content is not taken over, because it is known again soon: this hour's requests, token
    expiries, back-offs after failures, and the last event of the webhook.
    """
    for name in REPLACED_FILES:
        with suppress(OSError):  # a file that nothing reads any more
            (state / name).unlink(missing_ok=True)


def script_dir() -> Path:
    """Return where the migrations are: inside the package when installed, beside it in a
    checkout.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise StoreError(
        "this installation of syncd lacks its migrations",
        id="store/no-migrations",
        hint="install syncd again",
    )


def has_current_schema(file: Path) -> bool:
    """Return whether the header of the file says that it is a database of this version; nothing
    else is checked.

    Must not be called while this process has the file open.
    """
    try:
        with open(file, "rb") as opened:
            header = opened.read(HEADER_BYTES)
    except OSError:
        return False
    return int.from_bytes(header[APPLICATION_ID], "big") == stamp_of(VERSION)


def version_of(connection: Connection) -> str | None:
    """Return the schema of the database; None for an empty one.

    Raises DamagedError when the two numbers differ, and StoreError, having changed nothing, for one
    from a newer syncd.
    """
    stamp = int(pragma(connection, "application_id"))
    tables = set(connection.exec_driver_sql(TABLE_NAMES).scalars())
    if not tables and stamp == 0:
        return None
    found = (
        list(connection.execute(select(ALEMBIC_VERSION)).scalars())
        if "alembic_version" in tables
        else []
    )
    version = found[0] if len(found) == 1 else None
    if not isinstance(version, str) or not (
        stamp == stamp_of(version) or (stamp == 0 and version == UNSTAMPED_VERSION)
    ):
        raise DamagedError(
            f"it says schema {version!r} in one place and {stamp - APPLICATION_ID_BASE} in another"
        )
    if version > VERSION:
        raise StoreError(
            f"the store was written by a newer syncd (schema {version}, this one knows {VERSION}); "
            "it was not touched",
            id="store/newer-schema",
            hint="install that version again, or move the state folder away: "
            "files stay, and equal ones are adopted",
        )
    return version


def stamp_of(version: str) -> int | None:
    """Return what the header of a database of this schema holds."""
    return (
        APPLICATION_ID_BASE + int(version)
        if len(version) == 4 and version.isascii() and version.isdigit()
        else None
    )


def migrate(connection: Connection, found: str | None) -> None:
    """Bring the schema to this version.

    Raises StoreError; the caller must then roll its transaction back.
    """
    if found == VERSION:
        return
    if found is None:
        for statement in statements():
            connection.exec_driver_sql(statement)
        connection.execute(ALEMBIC_VERSION.insert().values(version_num=VERSION))
    else:
        _upgrade(connection)
    connection.exec_driver_sql(f"PRAGMA application_id = {stamp_of(VERSION)}")


def _upgrade(connection: Connection) -> None:
    """Run the migrations on this connection, in the transaction that the caller has begun."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(script_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"the store could not be migrated: {error}",
            id="store/migration-failed",
            hint="install syncd again",
        ) from error
