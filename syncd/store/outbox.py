"""Messages that wait to be sent, and what became of those that were: one transaction per meaning, agreed between all processes.

At most one message waits for each endpoint and job: a newer one takes the older's place, so the outbox is bounded by the configuration.
A message is claimed for a time by who sends it; one whose sender died is sent again. Endpoints are named by where their address is
read from: the address itself is a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Delete, Row, Select, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from syncd.store import schema
from syncd.store.database import Database

CLAIM_SECONDS = 60.0
FARTHEST_SECONDS = 7200.0  # a time farther off was written before the clock was set back


@dataclass(frozen=True)
class Waiting:
    """A message of ours to send now."""

    endpoint: str
    job: str
    id: str
    body: str
    created_at: float
    attempts: int


@dataclass(frozen=True)
class Delivery:
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
    for endpoint, body in bodies.items():
        values = {"endpoint": endpoint, "job": job, "id": identity, "body": body, "created_at": now, "attempts": 0, "next_at": now}
        statement = insert(schema.notice).values(**values)
        connection.execute(statement.on_conflict_do_update(index_elements=["endpoint", "job"], set_={name: statement.excluded[name] for name in values if name not in ("endpoint", "job")}))


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, endpoints: Iterable[str], now: float) -> Waiting | None:
        """A message whose time has come, for nobody else to send during the next minute. Those for other endpoints than these are dropped."""
        known, table = sorted(endpoints), schema.notice

        def work(connection: Connection) -> Waiting | None:
            connection.execute(delete(table).where(table.c.endpoint.not_in(known)))
            row = connection.execute(_due(now).order_by(table.c.next_at, table.c.created_at).limit(1)).first()
            if row is None:
                return None
            connection.execute(update(table).where(table.c.endpoint == row.endpoint, table.c.job == row.job).values(next_at=now + CLAIM_SECONDS))
            return Waiting(row.endpoint, row.job, row.id, row.body, row.created_at, row.attempts)

        return self._database.write(work) if self.waiting() else None

    def waiting(self) -> int:
        return self._database.read(lambda connection: int(connection.execute(select(func.count()).select_from(schema.notice)).scalar_one()))

    def next_at(self) -> float | None:
        """When the next message's time comes, in seconds since 1970."""
        found = self._database.read(lambda connection: connection.execute(select(func.min(schema.notice.c.next_at))).scalar())
        return float(found) if isinstance(found, (int, float)) else None

    def sent(self, one: Waiting, host: str, now: float) -> None:
        def work(connection: Connection) -> None:
            connection.execute(_mine(one))
            _count(connection, one.endpoint, host, sent=1, last_sent_at=now, error=None)

        self._database.write(work)

    def failed(self, one: Waiting, host: str | None, why: str, now: float, again_at: float, given_up: bool) -> None:
        """It is tried again at `again_at`, or given up; and so long nothing else is sent there: however many wait, an endpoint that fails is tried once a pause."""

        def work(connection: Connection) -> None:
            table = schema.notice
            if given_up:
                connection.execute(_mine(one))
            at_least = {"attempts": func.max(table.c.attempts, one.attempts + 1), "next_at": func.max(table.c.next_at, again_at)}
            connection.execute(update(table).where(table.c.endpoint == one.endpoint, table.c.job != one.job).values(**at_least))
            connection.execute(update(table).where(table.c.endpoint == one.endpoint, table.c.job == one.job, table.c.id == one.id).values(attempts=one.attempts + 1, next_at=again_at))
            _count(connection, one.endpoint, host, failed=1, dropped=int(given_up), last_failed_at=now, error=why)

        self._database.write(work)

    def deliveries(self, endpoints: Iterable[str]) -> tuple[Delivery, ...]:
        """How it stands with each of these endpoints."""

        def query(connection: Connection) -> tuple[Delivery, ...]:
            table = schema.notice
            waiting = {row[0]: row[1] for row in connection.execute(select(table.c.endpoint, func.count()).group_by(table.c.endpoint))}
            rows = {row.endpoint: row for row in connection.execute(select(schema.delivery))}
            return tuple(_delivery(name, waiting.get(name, 0), rows.get(name)) for name in endpoints)

        return self._database.read(query)


def _due(now: float) -> Select[Any]:
    table = schema.notice
    return select(table).where(or_(table.c.next_at <= now, table.c.next_at > now + FARTHEST_SECONDS))


def _mine(one: Waiting) -> Delete:
    table = schema.notice
    return delete(table).where(table.c.endpoint == one.endpoint, table.c.job == one.job, table.c.id == one.id)


def _count(connection: Connection, endpoint: str, host: str | None, sent: int = 0, failed: int = 0, dropped: int = 0, **values: object) -> None:
    table = schema.delivery
    connection.execute(insert(table).values(endpoint=endpoint, sent=0, failed=0, dropped=0).on_conflict_do_nothing())
    counted = {"sent": table.c.sent + sent, "failed": table.c.failed + failed, "dropped": table.c.dropped + dropped}
    connection.execute(update(table).where(table.c.endpoint == endpoint).values(**counted, **values, **({"host": host} if host is not None else {})))


def _delivery(endpoint: str, waiting: int, row: Row[Any] | None) -> Delivery:
    if row is None:
        return Delivery(endpoint, waiting=waiting)
    return Delivery(endpoint, row.host, waiting, row.sent, row.failed, row.dropped, _time(row.last_sent_at), _time(row.last_failed_at), row.error)


def _time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
