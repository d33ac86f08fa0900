"""Messages that wait to be sent, and what became of those that were: one transaction per meaning,
agreed between all processes.

At most one message waits for each endpoint and job: a newer one takes the older's place, so the
outbox is bounded by the configuration. An endpoint is claimed for a time by who sends to it; a
message whose sender died is sent again. A failed attempt pauses the endpoint for every message,
also for those that come later. Endpoints are named by where their address is read from: the address
itself is a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, case, delete, func, or_, select, update

from syncd.store.database import Database
from syncd.store.schema import DELIVERY, NOTIFICATION
from syncd.store.sqlite import insert, upsert

CLAIM_SECONDS = 60.0
FARTHEST_SECONDS = 7200.0  # a time farther off was written before the clock was set back
CLAIMED_LOOK_SECONDS = 5.0  # how soon to look again at an endpoint that another process sends to
PAUSED = NOTIFICATION.outerjoin(DELIVERY, DELIVERY.c.endpoint == NOTIFICATION.c.endpoint)
DELIVERED = DELIVERY.c[
    "endpoint", "host", "sent", "failed", "dropped", "last_sent_at", "last_failed_at", "error"
]


class PendingNotification(Struct, frozen=True):
    """A message of ours to send now."""

    endpoint: str
    job: str
    id: str
    body: str
    created_at: float
    attempts: int
    failures: (
        int  # attempts at the endpoint since its last success, whichever message they were for
    )


class DeliveryStats(Struct, frozen=True):
    """What became of an endpoint's messages.

    `host` is where the last one went; `error` is the last failure since the last success.
    """

    endpoint: str
    host: str | None = None
    waiting: int = 0
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    last_sent_at: datetime | None = None
    last_failed_at: datetime | None = None
    error: str | None = None


def put(
    connection: Connection, job: str, identity: str, bodies: Mapping[str, str], now: float
) -> None:
    """These bodies, by endpoint, wait; what waited for the same endpoint and job is gone."""
    fresh = {"job": job, "id": identity, "created_at": now, "attempts": 0}
    rows = ({"endpoint": endpoint, "body": body, **fresh} for endpoint, body in bodies.items())
    upsert(connection, NOTIFICATION, rows)


class NotificationQueue:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, endpoints: Iterable[str], now: float) -> PendingNotification | None:
        """A message to send now; its endpoint is claimed for a minute.

        Messages for other endpoints than these are dropped.

        None while every endpoint with waiting messages is paused or claimed.
        """
        known = sorted(endpoints)

        def work(connection: Connection) -> PendingNotification | None:
            connection.execute(delete(NOTIFICATION).where(NOTIFICATION.c.endpoint.not_in(known)))
            row = connection.execute(_due(now)).first()
            if row is None:
                return None
            one = PendingNotification(*row)
            _count(connection, one.endpoint, None, paused_until=now + CLAIM_SECONDS)
            return one

        return self._database.write(work) if self.count_pending() else None

    def count_pending(self) -> int:
        count = select(func.count()).select_from(NOTIFICATION)
        return self._database.read(lambda connection: int(connection.execute(count).scalar_one()))

    def next_at(self, now: float) -> float | None:
        """When to look for a message to send, in seconds since 1970; in the past for one that may
        be sent.

        None when no message waits.
        """
        paused = DELIVERY.c.paused_until
        soonest = case(
            (DELIVERY.c.failures == 0, func.min(paused, now + CLAIMED_LOOK_SECONDS)),
            else_=func.coalesce(paused, 0),
        )
        query = select(func.min(soonest)).select_from(PAUSED)
        found = self._database.read(lambda connection: connection.execute(query).scalar_one())
        return float(found) if isinstance(found, (int, float)) else None

    def mark_sent(self, one: PendingNotification, host: str, now: float) -> None:
        def work(connection: Connection) -> None:
            _drop(connection, one)
            _count(
                connection,
                one.endpoint,
                host,
                sent=1,
                last_sent_at=now,
                error=None,
                paused_until=None,
                failures=0,
            )

        self._database.write(work)

    def mark_failed(
        self,
        one: PendingNotification,
        host: str | None,
        why: str,
        now: float,
        again_at: float,
        given_up: bool,
    ) -> None:
        """Pause the endpoint until `again_at`: one attempt per pause, however many messages wait or
        come.

        The message stays, unless it is given up.
        """

        def work(connection: Connection) -> None:
            if given_up:
                _drop(connection, one)
            connection.execute(
                update(NOTIFICATION).where(*_is(one)).values(attempts=NOTIFICATION.c.attempts + 1)
            )
            _count(
                connection,
                one.endpoint,
                host,
                failed=1,
                dropped=int(given_up),
                last_failed_at=now,
                error=why,
                paused_until=again_at,
                failures=one.failures + 1,
            )

        self._database.write(work)

    def deliveries(self, endpoints: Iterable[str]) -> tuple[DeliveryStats, ...]:
        """How it stands with each of these endpoints."""

        def query(connection: Connection) -> tuple[DeliveryStats, ...]:
            counted = select(NOTIFICATION.c.endpoint, func.count()).group_by(
                NOTIFICATION.c.endpoint
            )
            waiting: dict[str, int] = dict(map(tuple, connection.execute(counted)))
            found = {row[0]: row[1:] for row in connection.execute(select(*DELIVERED))}
            return tuple(
                _delivery(name, waiting.get(name, 0), found.get(name)) for name in endpoints
            )

        return self._database.read(query)


def _due(now: float) -> Any:
    """The message to send next: of an endpoint that is not paused, the least tried one first."""
    paused = DELIVERY.c.paused_until
    return (
        select(
            *NOTIFICATION.c["endpoint", "job", "id", "body", "created_at", "attempts"],
            func.coalesce(DELIVERY.c.failures, 0),
        )
        .select_from(PAUSED)
        .where(or_(paused.is_(None), paused <= now, paused > now + FARTHEST_SECONDS))
        .order_by(NOTIFICATION.c.attempts, NOTIFICATION.c.created_at)
        .limit(1)
    )


def _is(one: PendingNotification) -> tuple[Any, ...]:
    columns = NOTIFICATION.c
    return columns.endpoint == one.endpoint, columns.job == one.job, columns.id == one.id


def _drop(connection: Connection, one: PendingNotification) -> None:
    connection.execute(delete(NOTIFICATION).where(*_is(one)))


def _count(
    connection: Connection,
    endpoint: str,
    host: str | None,
    sent: int = 0,
    failed: int = 0,
    dropped: int = 0,
    **values: Any,
) -> None:
    """So many more of each; and the other columns are these values."""
    fresh = {"endpoint": endpoint, "sent": 0, "failed": 0, "dropped": 0, "failures": 0}
    connection.execute(insert(DELIVERY).values(fresh).on_conflict_do_nothing())
    counted = {
        "sent": DELIVERY.c.sent + sent,
        "failed": DELIVERY.c.failed + failed,
        "dropped": DELIVERY.c.dropped + dropped,
    }
    values |= {} if host is None else {"host": host}
    connection.execute(
        update(DELIVERY).where(DELIVERY.c.endpoint == endpoint).values({**counted, **values})
    )


def _delivery(endpoint: str, waiting: int, row: Sequence[Any] | None) -> DeliveryStats:
    if row is None:
        return DeliveryStats(endpoint, waiting=waiting)
    host, sent, failed, dropped, last_sent_at, last_failed_at, error = row
    return DeliveryStats(
        endpoint,
        host,
        waiting,
        sent,
        failed,
        dropped,
        _time(last_sent_at),
        _time(last_failed_at),
        error,
    )


def _time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
