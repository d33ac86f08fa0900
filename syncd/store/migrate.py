"""Brings a database to this version's schema. Alembic is loaded only when the version differs; each change is one transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from syncd.errors import StoreError
from syncd.store.schema import VERSION


def script_dir() -> Path:
    """Where the migrations are: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise StoreError("this installation of syncd lacks its migrations", hint="install syncd again")


def version_of(connection: Connection) -> str | None:
    """The schema version of the database; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def migrate(connection: Connection, found: str | None) -> None:
    """The schema is this version's. Raises StoreError, having touched nothing, for a database from a newer syncd."""
    if found == VERSION:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(script_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    if found is not None and found not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise StoreError(
            f"the store was written by a newer syncd (schema {found}, this one knows {VERSION}); it was not touched",
            hint="install that version again, or move the state folder away: files stay, and equal ones are adopted",
        )
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the store could not be migrated: {error}") from error
