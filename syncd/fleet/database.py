"""Connections to the fleet's database, and its errors in syncd's own words.

A connection to another machine needs `sslmode=verify-full`. Statements, locks and idle transactions
are limited in time, so that a process that is frozen holds no row for long, and so is the wait for
a server that is frozen itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import psycopg
from msgspec import Struct
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from syncd.errors import ConfigError
from syncd.fleet.database_errors import shared_login, translated
from syncd.redaction import Secret

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
# The same for the server, which else keeps the sessions of a machine that is gone for hours.
SERVER_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
POOL_TIMEOUT_SECONDS = 120.0
WAIT_SECONDS = 0.1  # the driver's, between two looks at what it waits for


class DatabaseLimits(Struct, frozen=True):
    """How many connections there are at once, and limits in seconds.

    They are of a statement, of an idle transaction, of the wait for a lock, and of a server that
    sends nothing.
    """

    connections: int = 1
    statement_seconds: float = 600.0  # 100 MB over a slow line
    idle_seconds: float = 15.0
    lock_seconds: float = 10.0
    silent_seconds: float = 30.0

    def settings(self) -> dict[str, str]:
        """Return the server's settings: name -> value."""
        limits = {
            "statement_timeout": self.statement_seconds,
            "idle_in_transaction_session_timeout": self.idle_seconds,
            "lock_timeout": self.lock_seconds,
        }
        milliseconds = {name: f"{int(seconds * 1000)}ms" for name, seconds in limits.items()}
        return {**milliseconds, **SERVER_SETTINGS}


class FleetConnection(psycopg.Connection):  # type: ignore[misc]  # of an extra
    """A connection that gives up on a server that sends nothing for `silent_seconds`.

    A frozen server ends no statement at its own timeout, and its kernel answers keepalives.
    `is_pooled`: a pooler is in between, which may give each transaction another server process.
    """

    silent_seconds = 30.0
    is_pooled = False

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for the server, as the driver does, and end the connection where it is silent."""
        try:
            return super().wait(limited(gen, self.silent_seconds), *args, **options)
        except SilentServerError:
            self.pgconn.finish()
            raise


class SilentServerError(psycopg.OperationalError):  # type: ignore[misc]
    """The server sent nothing for too long."""


def limited(gen: PQGen[RV], silent_seconds: float) -> PQGen[RV]:
    """Yield what the driver's generator waits for, until the server was silent for too long.

    The driver looks up from its wait each WAIT_SECONDS without a byte. Raises SilentServerError.
    """
    silent = 0.0
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            silent = 0.0 if ready else silent + WAIT_SECONDS
            if silent > silent_seconds:
                raise SilentServerError(f"the server sent nothing for {silent_seconds:g} seconds")
            wanted = gen.send(ready)
    except StopIteration as done:
        result: RV = done.value
        return result


class FleetDatabase:
    """The fleet's database as one login sees it. Safe to use from many threads.

    Connections are made when they are needed, and made again after they broke.
    """

    def __init__(
        self, address: Secret, application: str, limits: DatabaseLimits = DatabaseLimits()
    ) -> None:
        check_address(address)
        self._address, self._application, self._limits = address, application, limits
        self._listen: Callable[[FleetConnection], None] | None = None
        self._engine: Engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=True,
        )
        event.listen(self._engine, "begin", self._limit_transaction)
        event.listen(self._engine, "handle_error", _leave_read_only)

    def listen(self, listen: Callable[[FleetConnection], None]) -> None:
        """Call this with every new connection, before anything else is done with it.

        Connections that there are already are closed.
        """
        self._listen = listen
        self.reconnect()

    def reconnect(self) -> None:
        """Close every connection, those in use when their transactions end; others are made."""
        self._engine.dispose()

    def _connect(self) -> FleetConnection:
        try:
            connection: FleetConnection = FleetConnection.connect(
                self._address.reveal(), application_name=self._application, **CONNECTION_OPTIONS
            )
        except psycopg.Error as error:
            # A traceback that is kept keeps the socket: the server would count it as a session.
            raise error.with_traceback(None) from None
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: FleetConnection) -> None:
        connection.silent_seconds = self._limits.silent_seconds
        connection.is_pooled = _is_pooled(connection)
        if not connection.is_pooled:
            _set(connection.execute, self._limits, in_transaction=False)
        connection.commit()
        if self._listen is not None:
            self._listen(connection)
            connection.commit()

    def _limit_transaction(self, connection: Connection) -> None:
        """Limit a transaction through a pooler: what a session sets, another client would get."""
        driver = connection.connection.driver_connection
        if isinstance(driver, FleetConnection) and driver.is_pooled:
            _set(driver.execute, self._limits, in_transaction=True)

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


def _is_pooled(connection: FleetConnection) -> bool:
    """Return whether a pooler is in between: it makes up the process that a client talks to.

    Raises AuthError for a pooler that uses one login for all clients.
    """
    found = connection.execute("SELECT pg_backend_pid(), session_user").fetchone()
    process, login = found or (0, "")
    if login != connection.info.user:
        raise shared_login(connection.info.user, login)
    return bool(process != connection.info.backend_pid)


def _set(execute: Callable[..., object], limits: DatabaseLimits, in_transaction: bool) -> None:
    """Set the limits, for the session or for the transaction that begins, in one statement."""
    settings = limits.settings()
    query = ", ".join(["set_config(%s, %s, %s)"] * len(settings))
    values = [one for name, value in settings.items() for one in (name, value, in_transaction)]
    execute(f"SELECT {query}", values)


def _leave_read_only(context: ExceptionContext) -> None:
    """Close a connection over which nothing could be written: the next one may find the primary.

    A session stays read-only after `default_transaction_read_only` of its database has ended.
    """
    error = context.original_exception
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


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


__all__ = ["DatabaseLimits", "FleetConnection", "FleetDatabase", "check_address", "translated"]
