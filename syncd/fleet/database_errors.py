"""The errors of the fleet's database in syncd's own words.

An error of the class `unavailable` passes by itself. Those of ANSWERED came from a server that can
still be read: it takes no writes now, is full, or a lock is held.
"""

from __future__ import annotations

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from syncd.errors import (
    AuthError,
    ConfigError,
    RemoteUnavailableError,
    StoreError,
    SyncdError,
)
from syncd.text import one_line

REFUSED_LOGINS = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "no such user",  # the words of pgbouncer
    "no such database",
)
NO_WRITER = ("session is read-only", "server is in hot standby mode")  # libpq, of each host
STATEMENT_POOLING = "statement pooling mode"  # pgbouncer, of a transaction

READ_ONLY_ID = "unavailable/fleet-read-only"
ANSWERED = frozenset((READ_ONLY_ID, "unavailable/fleet-full", "unavailable/fleet-busy"))
AGAIN = "a daemon tries again; a command has to be typed again"
WRITER_HINT = (
    "promote the standby, or end default_transaction_read_only; with a standby, name both hosts "
    "and target_session_attrs=read-write in fleet.database. A daemon tries again"
)


class _States(StrEnum):
    """What PostgreSQL says of an error. Source: its appendix A, "PostgreSQL Error Codes"."""

    MISSING_TABLE = "42P01"
    MISSING_SCHEMA = "3F000"
    DENIED = "42501"
    GONE_MEANWHILE = "23503"  # a row that another names was removed between two transactions
    READ_ONLY = "25006"
    FULL = "53100"
    LOCKED = "55P03"


def translated(error: Exception) -> SyncdError | None:
    """Return the error of the database as one of ours; None for a bug of ours."""
    if isinstance(error, PoolTimeoutError):
        return _busy("every connection of this process is in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    return _of_driver(cause) if isinstance(cause, psycopg.Error) else None


def _of_driver(error: psycopg.Error) -> SyncdError | None:
    said = one_line(str(error).strip().splitlines()[0] if str(error).strip() else "no reason given")
    known = _to_correct(error, said) or _passing_with_remedy(error, said)
    if known is not None:
        return known
    passing = (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError)
    return unavailable(said) if isinstance(error, passing) else None


def _to_correct(error: psycopg.Error, said: str) -> SyncdError | None:
    """Return the error that an operator has to correct; None for any other."""
    if error.sqlstate in (_States.MISSING_TABLE, _States.MISSING_SCHEMA):
        return StoreError(
            f"the database has no fleet of syncd: {said}",
            id="store/fleet-missing",
            hint="run `syncd fleet init` as the owner of the database",
        )
    if error.sqlstate == _States.DENIED:
        return AuthError(
            f"the fleet's database refused what this login asked for: {said}",
            id="auth/fleet-denied",
            hint="make the login a member of syncd_agent or syncd_controller (docs/fleet.md)",
        )
    if STATEMENT_POOLING in said:
        return ConfigError(
            f"fleet.database: the pooler gives no transactions: {said}",
            id="config/fleet-pooler",
            hint="set pool_mode = transaction in the pooler, or name the server itself",
        )
    if (error.sqlstate or "").startswith("28") or any(one in said for one in REFUSED_LOGINS):
        return AuthError(
            f"the fleet's database refused the login: {said}",
            id="auth/fleet-login",
            hint="correct the login, password or certificate in fleet.database",
        )
    return None


def _passing_with_remedy(error: psycopg.Error, said: str) -> SyncdError | None:
    """Return the error of a server that answers and can't do it now; None for any other."""
    match error.sqlstate:
        case _States.READ_ONLY:
            return RemoteUnavailableError(
                f"the fleet's database takes no writes: {said}", id=READ_ONLY_ID, hint=WRITER_HINT
            )
        case _States.FULL:
            return RemoteUnavailableError(
                f"the fleet's database is full: {said}",
                id="unavailable/fleet-full",
                hint="make room on the database's server; nothing was changed, and syncd tries "
                "again",
            )
        case _States.LOCKED:
            return _busy(said)
        case _States.GONE_MEANWHILE:
            return unavailable("another controller has removed meanwhile what was to be used")
    if any(one in said for one in NO_WRITER):
        return unavailable(said, WRITER_HINT)
    return None


def unavailable(reason: str, hint: str = f"nothing was changed; {AGAIN}") -> RemoteUnavailableError:
    """Return the error of a database that does not answer."""
    return RemoteUnavailableError(
        f"the fleet's database can't be used now: {reason}",
        id="unavailable/fleet-database",
        hint=hint,
    )


def _busy(reason: str) -> RemoteUnavailableError:
    return RemoteUnavailableError(
        f"the fleet's database is busy: {reason}",
        id="unavailable/fleet-busy",
        hint=f"nothing was changed; {AGAIN}. For a lock, look at pg_stat_activity",
    )


def shared_login(login: str, pooler_login: str) -> AuthError:
    """Return the error of a pooler that uses one login for all clients."""
    return AuthError(
        f"a pooler logs {login} in to the fleet's database as {pooler_login}, and PostgreSQL tells "
        "machines apart by their logins",
        id="auth/fleet-shared-login",
        hint="remove user= from the pooler's entry of the database",
    )


__all__ = ["ANSWERED", "READ_ONLY_ID", "shared_login", "translated", "unavailable"]
