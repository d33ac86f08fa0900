"""The fleet's schema: what the migrations make is what the tables say."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from syncd.errors import StoreError
from syncd.fleet.database import FleetDatabase
from syncd.fleet.migrate import initialise, version_of
from syncd.fleet.schema import METADATA, VERSION
from syncd.redaction import Secret
from tests.support.fleet import Fleet

pytestmark = pytest.mark.postgresql


def test_the_migrations_make_the_tables_of_the_schema(fleet: Fleet) -> None:
    database = fleet.database()
    with database.begin() as connection:
        options = {
            "include_schemas": True,
            "version_table_schema": "syncd",
            "include_name": lambda name, kind, _parents: kind != "schema" or name == "syncd",
            "compare_server_default": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_a_second_init_changes_nothing_and_takes_no_grant_away(fleet: Fleet) -> None:
    database = fleet.database()
    with database.begin() as connection:
        initialise(connection)
        assert version_of(connection) == VERSION
    agent = fleet.database("web01")
    with agent.begin() as connection:
        assert connection.execute(text("SELECT count(name) FROM syncd.job")).scalar_one() == 0
    agent.close()
    database.close()


def test_init_refuses_the_database_of_a_newer_syncd(fleet: Fleet) -> None:
    database = fleet.database()
    with database.begin() as connection:
        connection.execute(text("UPDATE syncd.alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer syncd"), database.begin() as connection:
        initialise(connection)
    database.close()


def test_a_database_without_a_fleet_says_what_to_run(fleet: Fleet) -> None:
    database = FleetDatabase(Secret(fleet.cluster.address()), "syncd-test")
    with pytest.raises(StoreError) as found, database.begin() as connection:
        connection.execute(text("SELECT FROM syncd.job"))
    assert found.value.id == "store/fleet-missing"
    assert "syncd fleet init" in str(found.value.hint)
    database.close()


def test_a_broken_connection_is_made_again(fleet: Fleet) -> None:
    database = fleet.database(connections=1)
    with database.begin() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    fleet.cluster.execute(f"SELECT pg_terminate_backend({pid})")
    with database.begin() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    database.close()
