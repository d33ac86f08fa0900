"""Connections of a fleet: what the server does with those of a process that is gone or frozen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from sqlalchemy import Connection, text

from syncd.errors import RemoteUnavailableError
from syncd.fleet import leases
from syncd.fleet.database import DatabaseLimits, FleetDatabase
from syncd.fleet.publish import publish
from syncd.redaction import Secret
from tests.support.fleet import Fleet, Publisher, job_of, publication
from tests.support.fleet_watch import until
from tests.support.postgresql import cluster

pytestmark = pytest.mark.postgresql

IDLE_SECONDS = 0.2
FILES = {"nginx/nginx.conf": b"user www;\n"}


def registered(publisher: Publisher, connection: Connection) -> None:
    leases.register(connection, {"nginx": job_of(), "other": job_of("other")})


def published(publisher: Publisher, connection: Connection) -> None:
    lease = publisher.claim(job_of())
    publish(connection, lease, publication(job_of(), FILES, "1" * 40), publisher.signer)


@pytest.mark.parametrize("work", [registered, published])
def test_a_controller_that_is_frozen_in_a_transaction_loses_its_session(
    fleet: Fleet, controller: Publisher, work: Callable[[Publisher, Connection], None]
) -> None:
    limits = DatabaseLimits(1, idle_seconds=IDLE_SECONDS)
    frozen = FleetDatabase(Secret(fleet.address("c1")), "frozen", limits)
    with pytest.raises(RemoteUnavailableError, match="idle-in-transaction"), frozen.begin() as made:
        work(controller, made)
        query = text("SELECT FROM pg_stat_activity WHERE application_name = 'frozen'")

        def is_gone() -> bool:
            with controller.database.begin() as other:
                return other.execute(query).first() is None

        until(is_gone, "the server ends the session", 30.0)
        made.execute(text("SELECT 1"))
    frozen.close()


def test_the_server_asks_a_silent_machine_for_a_sign_of_life() -> None:
    with cluster(host="127.0.0.1") as made:
        address = made.tcp_address("postgres", made.user)
        database = FleetDatabase(Secret(address), "syncd-test")
        with database.begin() as connection:
            found = connection.execute(
                text("SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp\\_%'")
            )
            assert {row.name: row.setting for row in found} == {
                "tcp_keepalives_count": "3",
                "tcp_keepalives_idle": "5",
                "tcp_keepalives_interval": "2",
                "tcp_user_timeout": "15000",
            }
        database.close()
