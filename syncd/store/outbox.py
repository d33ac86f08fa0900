"""Messages that wait to be sent, and what became of those that were: one transaction per meaning, agreed between all processes.

At most one message waits for each endpoint and job: a newer one takes the older's place, so the outbox is bounded by the configuration.
A message is claimed for a time by who sends it; one whose sender died is sent again. Endpoints are named by where their address is
read from: the address itself is a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any

from msgspec import Struct

from syncd.store import sql
from syncd.store.database import Database

CLAIM_SECONDS = 60.0
FARTHEST_SECONDS = 7200.0  # a time farther off was written before the clock was set back
DUE = "SELECT endpoint, job, id, body, created_at, attempts FROM notice WHERE next_at <= ? OR next_at > ? ORDER BY next_at, created_at LIMIT 1"
MINE = "endpoint = ? AND job = ? AND id = ?"


class Waiting(Struct, frozen=True):
    """A message of ours to send now."""

    endpoint: str
    job: str
    id: str
    body: str
    created_at: float
    attempts: int


class Delivery(Struct, frozen=True):
    """What became of an endpoint's messages. `host` is where the last one went; `error` is the last failure since the last success."""

    endpoint: str
    host: str | None = None
    waiting: int = 0
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    last_sent_at: datetime | None = None
    last_failed_at: datetime | None = None
    error: str | None = None


def put(connection: Connection, job: str, identity: str, bodies: Mapping[str, str], now: float) -> None:
    """These bodies, by endpoint, wait; what waited for the same endpoint and job is gone."""
    fresh = {"job": job, "id": identity, "created_at": now, "attempts": 0, "next_at": now}
    sql.put(connection, "notice", ("endpoint", "job"), ({"endpoint": endpoint, "body": body, **fresh} for endpoint, body in bodies.items()))


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, endpoints: Iterable[str], now: float) -> Waiting | None:
        """A message whose time has come, for nobody else to send during the next minute. Those for other endpoints than these are dropped."""
        known = sorted(endpoints)

        def work(connection: Connection) -> Waiting | None:
            connection.execute(f"DELETE FROM notice WHERE endpoint NOT IN ({sql.marks(known)})", known)
            row = connection.execute(DUE, (now, now + FARTHEST_SECONDS)).fetchone()
            if row is None:
                return None
            one = Waiting(*row)
            connection.execute("UPDATE notice SET next_at = ? WHERE endpoint = ? AND job = ?", (now + CLAIM_SECONDS, one.endpoint, one.job))
            return one

        return self._database.write(work) if self.waiting() else None

    def waiting(self) -> int:
        return self._database.read(lambda connection: int(connection.execute("SELECT count(*) FROM notice").fetchone()[0]))

    def next_at(self) -> float | None:
        """When the next message's time comes, in seconds since 1970."""
        found = self._database.read(lambda connection: connection.execute("SELECT min(next_at) FROM notice").fetchone()[0])
        return float(found) if isinstance(found, (int, float)) else None

    def sent(self, one: Waiting, host: str, now: float) -> None:
        def work(connection: Connection) -> None:
            _drop(connection, one)
            _count(connection, one.endpoint, host, sent=1, last_sent_at=now, error=None)

        self._database.write(work)

    def failed(self, one: Waiting, host: str | None, why: str, now: float, again_at: float, given_up: bool) -> None:
        """It is tried again at `again_at`, or given up; and so long nothing else is sent there: however many wait, an endpoint that fails is tried once a pause."""

        def work(connection: Connection) -> None:
            if given_up:
                _drop(connection, one)
            at_least = "attempts = max(attempts, ?), next_at = max(next_at, ?)"
            connection.execute(f"UPDATE notice SET {at_least} WHERE endpoint = ? AND job != ?", (one.attempts + 1, again_at, one.endpoint, one.job))
            connection.execute(f"UPDATE notice SET attempts = ?, next_at = ? WHERE {MINE}", (one.attempts + 1, again_at, one.endpoint, one.job, one.id))
            _count(connection, one.endpoint, host, failed=1, dropped=int(given_up), last_failed_at=now, error=why)

        self._database.write(work)

    def deliveries(self, endpoints: Iterable[str]) -> tuple[Delivery, ...]:
        """How it stands with each of these endpoints."""

        def query(connection: Connection) -> tuple[Delivery, ...]:
            waiting = dict(connection.execute("SELECT endpoint, count(*) FROM notice GROUP BY endpoint").fetchall())
            told = "SELECT endpoint, host, sent, failed, dropped, last_sent_at, last_failed_at, error FROM delivery"
            found = {row[0]: row[1:] for row in connection.execute(told).fetchall()}
            return tuple(_delivery(name, waiting.get(name, 0), found.get(name)) for name in endpoints)

        return self._database.read(query)


def _drop(connection: Connection, one: Waiting) -> None:
    connection.execute(f"DELETE FROM notice WHERE {MINE}", (one.endpoint, one.job, one.id))


def _count(connection: Connection, endpoint: str, host: str | None, sent: int = 0, failed: int = 0, dropped: int = 0, **values: object) -> None:
    """So many more of each; and the other columns are these values."""
    connection.execute("INSERT INTO delivery (endpoint, sent, failed, dropped) VALUES (?, 0, 0, 0) ON CONFLICT DO NOTHING", (endpoint,))
    values |= {} if host is None else {"host": host}
    changed = ", ".join(f"{name} = ?" for name in values)
    counted = "sent = sent + ?, failed = failed + ?, dropped = dropped + ?"
    connection.execute(f"UPDATE delivery SET {counted}, {changed} WHERE endpoint = ?", (sent, failed, dropped, *values.values(), endpoint))


def _delivery(endpoint: str, waiting: int, row: Sequence[Any] | None) -> Delivery:
    if row is None:
        return Delivery(endpoint, waiting=waiting)
    host, sent, failed, dropped, last_sent_at, last_failed_at, error = row
    return Delivery(endpoint, host, waiting, sent, failed, dropped, _time(last_sent_at), _time(last_failed_at), error)


def _time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
