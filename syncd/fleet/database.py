"""Connections to the fleet's database, and its errors in syncd's own words.

A connection to another machine needs `sslmode=verify-full`. Statements and idle transactions are
limited in time, so that a process that is frozen holds no row for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from syncd.errors import AuthError, ConfigError, RemoteUnavailableError, StoreError, SyncdError
from syncd.redaction import Secret
from syncd.text import one_line

LOG = logging.getLogger("syncd.fleet")

# A dead peer is noticed within these, also while bytes are unacknowledged (tcp(7)).
CONNECTION_OPTIONS = {
    "connect_timeout": 10,
    "prepare_threshold": None,  # a pooler may send the next statement to another connection
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}
POOL_TIMEOUT_SECONDS = 120.0
REFUSED_LOGINS = ("password authentication failed", "no pg_hba.conf entry", "does not exist")
MISSING_TABLE, MISSING_SCHEMA, DENIED = "42P01", "3F000", "42501"
GONE_MEANWHILE = "23503"  # a row that another names was removed between two transactions


class DatabaseLimits(Struct, frozen=True):
    """How many connections there are at once, and how long a statement or an idle transaction may
    take, in seconds.
    """

    connections: int = 1
    statement_seconds: float = 600.0  # 100 MB over a slow line
    idle_seconds: float = 15.0


class FleetDatabase:
    """The fleet's database as one login sees it. Safe to use from many threads.

    Connections are made when they are needed, and made again after they broke.
    """

    def __init__(
        self, address: Secret, application: str, limits: DatabaseLimits = DatabaseLimits()
    ) -> None:
        check_address(address)
        self._address, self._application, self._limits = address, application, limits
        self._listen: Callable[[psycopg.Connection], None] | None = None
        self._engine: Engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=True,
        )

    def listen(self, listen: Callable[[psycopg.Connection], None]) -> None:
        """Call this with every new connection, before anything else is done with it.

        Connections that there are already are closed.
        """
        self._listen = listen
        self._engine.dispose()

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(
            self._address.reveal(), application_name=self._application, **CONNECTION_OPTIONS
        )
        limits = {
            "statement_timeout": self._limits.statement_seconds,
            "idle_in_transaction_session_timeout": self._limits.idle_seconds,
        }
        for name, seconds in limits.items():
            value = f"{int(seconds * 1000)}ms"
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if self._listen is not None:
            self._listen(connection)
        connection.commit()
        return connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction, which an exception rolls back.

        Raises:
            RemoteUnavailableError: the database does not answer, or can't do it now.
            AuthError: it refused the login, or what the login asked for.
            StoreError: it has no fleet.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError, psycopg.Error) as error:
            known = translated(error)
            if known is None:
                raise
            raise known from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def check_address(address: Secret) -> None:
    """Check that the address can be used, and that a connection to another machine is verified.

    Raises ConfigError that does not show it.
    """
    try:
        parts = conninfo_to_dict(address.reveal())
    except psycopg.Error as error:
        raise ConfigError(
            "fleet.database: it is no address of a PostgreSQL database",
            id="config/fleet-address",
            hint="write postgresql://LOGIN@HOST/DATABASE?sslmode=verify-full",
        ) from error
    hosts = str(parts.get("hostaddr") or parts.get("host") or "").split(",")
    if all(map(_is_here, hosts)) or parts.get("sslmode") == "verify-full":
        return
    raise ConfigError(
        "fleet.database: the server is another machine, and nothing verifies that it is the one",
        id="config/fleet-tls",
        hint="add sslmode=verify-full, and sslrootcert=FILE for an authority of your own",
    )


def _is_here(host: str) -> bool:
    """Return whether a host is this machine: a socket, or a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def translated(error: Exception) -> SyncdError | None:
    """Return the error of the database as one of ours; None for a bug of ours."""
    if isinstance(error, PoolTimeoutError):
        return _unavailable("every connection of this process is in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    return _of_driver(cause) if isinstance(cause, psycopg.Error) else None


def _of_driver(error: psycopg.Error) -> SyncdError | None:
    said = one_line(str(error).strip().splitlines()[0] if str(error).strip() else "no reason given")
    if error.sqlstate in (MISSING_TABLE, MISSING_SCHEMA):
        return StoreError(
            f"the database has no fleet of syncd: {said}",
            id="store/fleet-missing",
            hint="run `syncd fleet init` as the owner of the database",
        )
    if error.sqlstate == DENIED:
        return AuthError(
            f"the fleet's database refused what this login asked for: {said}",
            id="auth/fleet-denied",
            hint="make the login a member of syncd_agent or syncd_controller (docs/fleet.md)",
        )
    if (error.sqlstate or "").startswith("28") or any(one in said for one in REFUSED_LOGINS):
        return AuthError(
            f"the fleet's database refused the login: {said}",
            id="auth/fleet-login",
            hint="correct the login, password or certificate in fleet.database",
        )
    if error.sqlstate == GONE_MEANWHILE:
        return _unavailable("another controller has removed meanwhile what was to be used")
    passing = (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError)
    return _unavailable(said) if isinstance(error, passing) else None


def _unavailable(reason: str) -> RemoteUnavailableError:
    return RemoteUnavailableError(
        f"the fleet's database can't be used now: {reason}",
        id="unavailable/fleet-database",
        hint="nothing was changed; syncd tries again",
    )


__all__ = ["DatabaseLimits", "FleetDatabase", "check_address", "translated"]
