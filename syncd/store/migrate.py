"""Brings a database to this version's schema.

Alembic is loaded only for an older one; all changes are one transaction.

An empty database is given the present schema at once, which a test keeps equal to what the
migrations come to: loading Alembic would cost a first sync more than half of what the rest of its
start does.

The schema's number is kept twice, in Alembic's table and in the file's header, so that one damaged
bit is not taken for a newer syncd.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select

from syncd.errors import StoreError
from syncd.store.corruption import DamagedError
from syncd.store.schema import ALEMBIC_VERSION, VERSION, statements
from syncd.store.sqlite import pragma

OURS = 0x73790000  # "sy" and the schema's number: SQLite's application_id, which file(1) shows too
HEADER_BYTES, APPLICATION_ID = 100, slice(68, 72)  # sqlite.org "Database File Format", 1.3
TABLE_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table'"
UNSTAMPED = "0001"  # the one schema whose header carried no number


REPLACED_FILES = ("spent.json", "expiries.json", "holds.json", "webhook.json", "quick.json")


def remove_replaced_files(state: Path) -> None:
    """Remove the small files of earlier versions whose facts are tables since 0005.

    What they said is not taken over, because it is known again soon: this hour's requests, ends of
    tokens, waits after failures, and what the webhook was sent last.
    """
    for name in REPLACED_FILES:
        with suppress(OSError):  # a file that nothing reads any more
            (state / name).unlink(missing_ok=True)


def script_dir() -> Path:
    """Where the migrations are: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise StoreError("this installation of syncd lacks its migrations", hint="install syncd again")


def has_current_schema(file: Path) -> bool:
    """Does the header of the file say that it is a database of this version?

    Nothing else is known of it. Not to be asked while this process has it open.
    """
    try:
        with open(file, "rb") as opened:
            header = opened.read(HEADER_BYTES)
    except OSError:
        return False
    return int.from_bytes(header[APPLICATION_ID], "big") == stamp_of(VERSION)


def version_of(connection: Connection) -> str | None:
    """The schema of the database; None for an empty one.

    Raises DamagedError when the file does not say one thing, StoreError, having touched nothing,
    for one from a newer syncd.
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
        stamp == stamp_of(version) or (stamp == 0 and version == UNSTAMPED)
    ):
        raise DamagedError(f"it says schema {version!r} in one place and {stamp - OURS} in another")
    if version > VERSION:
        raise StoreError(
            f"the store was written by a newer syncd (schema {version}, this one knows {VERSION}); it was not touched",
            hint="install that version again, or move the state folder away: files stay, and equal ones are adopted",
        )
    return version


def stamp_of(version: str) -> int | None:
    """What the header of a database of this schema carries."""
    return (
        OURS + int(version)
        if len(version) == 4 and version.isascii() and version.isdigit()
        else None
    )


def migrate(connection: Connection, found: str | None) -> None:
    """The schema is this version's.

    Raises StoreError; the caller's transaction must then be rolled back.
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
            f"the store could not be migrated: {error}", hint="install syncd again"
        ) from error
