"""Brings the fleet's database to this version: tables by Alembic, then roles and policies.

Everything is one transaction. Roles and policies are written anew each time, from files in sql/.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.schema import CreateSchema

from syncd.errors import StoreError
from syncd.fleet.schema import METADATA, SCHEMA, VERSION

LOCK = 0x73796E63  # "sync": of the advisory lock that two `fleet init` at once share
CURRENT = text(f"SELECT version_num FROM {SCHEMA}.alembic_version")  # noqa: S608  (a constant)


def script_dir() -> Path:
    """Return where the migrations are: inside the package when installed, beside it in a
    checkout.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "fleet" / "env.py").is_file():
            return place / "fleet"
    raise StoreError(
        "this installation of syncd lacks its migrations",
        id="store/no-migrations",
        hint="install syncd again",
    )


def version_of(connection: Connection) -> str | None:
    """Return the schema that the database has; None where it has none."""
    if not inspect(connection).has_table("alembic_version", schema=SCHEMA):
        return None
    found: str | None = connection.execute(CURRENT).scalar_one_or_none()
    return found


def login_of(connection: Connection) -> str:
    """Return the login of the connection."""
    return str(connection.execute(text("SELECT SESSION_USER")).scalar_one())


def initialise(connection: Connection) -> None:
    """Make the fleet's tables, roles and policies, or bring older ones to this version.

    Raises StoreError for a database of a newer syncd.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    found = version_of(connection)
    if found is not None and found > VERSION:
        raise StoreError(
            f"the fleet's database was made by a newer syncd (schema {found}, this one knows "
            f"{VERSION})",
            id="store/fleet-newer",
            hint="run `syncd fleet init` of the newer version",
        )
    connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
    _upgrade(connection)
    for name in ("roles", "policies"):
        _execute_all(connection, statements(name))


def statements(name: str) -> str:
    """Return the statements of a file in sql/."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text()


def _execute_all(connection: Connection, script: str) -> None:
    """Execute a script of statements, which only the driver's simple protocol does."""
    driver = connection.connection.driver_connection
    if driver is not None:
        driver.execute(script)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(script_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = METADATA
    command.upgrade(config, "head")


__all__ = ["initialise", "login_of", "script_dir", "statements", "version_of"]
