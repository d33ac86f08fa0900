"""The queue of notifications to be sent, and the delivery statistics of each endpoint, shared by
all processes.

At most one notification waits for each endpoint, job and slot: a newer one replaces the older, so
the configuration bounds the queue. The process that sends to an endpoint claims it for a time; the
notification of a process that died is sent again. A failed attempt pauses the endpoint for every
notification, also for later ones. An endpoint is named by where its address is read from, because
the address is a secret.
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
MAX_PAUSE_SECONDS = 7200.0  # a longer pause was written before the clock was set back
CLAIMED_POLL_SECONDS = 5.0  # for an endpoint that another process sends to
WITH_DELIVERY = NOTIFICATION.outerjoin(DELIVERY, DELIVERY.c.endpoint == NOTIFICATION.c.endpoint)
DELIVERY_COLUMNS = DELIVERY.c[
    "endpoint", "host", "sent", "failed", "dropped", "last_sent_at", "last_failed_at", "error"
]


class PendingNotification(Struct, frozen=True):
    """A notification that the caller sends now."""

    endpoint: str
    job: str  # with its slot
    id: str
    body: str
    created_at: float
    attempts: int
    # Failed attempts at the endpoint since its last success, for any message.
    failures: int
    # Until when the endpoint was paused before this one was claimed, in Unix seconds.
    paused_until: float | None = None

    @property
    def job_name(self) -> str:
        """The job's name."""
        return self.job.partition("@")[0]


class DeliveryStats(Struct, frozen=True):
    """Delivery statistics of an endpoint.

    `host` is where the last notification was sent; `error` is the last failure since the last
    success.
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


class NewNotification(Struct, frozen=True):
    """A notification to queue: its id, its body for each endpoint, and its time in Unix seconds.

    It replaces the one that waits for the same endpoint, job and `slot`: a word with an @ before
    it, or nothing.
    """

    id: str
    bodies: Mapping[str, str]
    created_at: float
    slot: str = ""


class FailedAttempt(Struct, frozen=True):
    """A failed attempt to send. Times are Unix seconds.

    `retry_at` is the end of the pause; `given_up`: the notification is not sent again.
    """

    host: str | None
    error: str
    failed_at: float
    retry_at: float
    given_up: bool


def put(connection: Connection, job: str, new: NewNotification) -> None:
    """Queue the bodies; each replaces the one that waits for the same endpoint, job and slot.

    Without a body, what waits in the slot is dropped.
    """
    if not new.bodies:
        connection.execute(delete(NOTIFICATION).where(NOTIFICATION.c.job == job + new.slot))
    common = {"job": job + new.slot, "id": new.id, "created_at": new.created_at, "attempts": 0}
    rows = ({"endpoint": endpoint, "body": body, **common} for endpoint, body in new.bodies.items())
    upsert(connection, NOTIFICATION, rows)


class NotificationQueue:
    """The queue in one database. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, endpoints: Iterable[str], now: float) -> PendingNotification | None:
        """Return a notification to send now, and claim its endpoint for a minute.

        Returns None while each endpoint with notifications is paused or claimed. Notifications for
        other endpoints than these are deleted.
        """
        known = sorted(endpoints)

        def work(connection: Connection) -> PendingNotification | None:
            connection.execute(delete(NOTIFICATION).where(NOTIFICATION.c.endpoint.not_in(known)))
            row = connection.execute(_due(now)).first()
            if row is None:
                return None
            found = PendingNotification(*row)
            _update_delivery(connection, found.endpoint, {}, {"paused_until": now + CLAIM_SECONDS})
            return found

        return self._database.write(work) if self.count_pending() else None

    def count_pending(self) -> int:
        """Return how many notifications wait."""
        count = select(func.count()).select_from(NOTIFICATION)
        return self._database.read(lambda connection: int(connection.execute(count).scalar_one()))

    def next_at(self, now: float) -> float | None:
        """Return when to call `claim` again, in Unix seconds; in the past when a notification may
        be sent now.

        None when no notification waits.
        """
        paused = DELIVERY.c.paused_until
        soonest = case(
            (DELIVERY.c.failures == 0, func.min(paused, now + CLAIMED_POLL_SECONDS)),
            else_=func.coalesce(paused, 0),
        )
        query = select(func.min(soonest)).select_from(WITH_DELIVERY)
        found = self._database.read(lambda connection: connection.execute(query).scalar_one())
        return float(found) if isinstance(found, (int, float)) else None

    def mark_sent(
        self,
        notification: PendingNotification,
        host: str,
        now: float,
        paused_until: float | None = None,
    ) -> None:
        """Remove the notification, and count it as sent to this host.

        The next one for the endpoint waits until `paused_until`, in Unix seconds.
        """

        def work(connection: Connection) -> None:
            _remove(connection, notification)
            changes = {"host": host, "last_sent_at": now, "error": None}
            changes |= {"paused_until": paused_until, "failures": 0}
            _update_delivery(connection, notification.endpoint, {"sent": 1}, changes)

        self._database.write(work)

    def mark_failed(self, notification: PendingNotification, attempt: FailedAttempt) -> None:
        """Pause the endpoint: there is one attempt per pause, however many notifications wait or
        come.

        The notification stays, unless it is given up.
        """
        counts = {"failed": 1, "dropped": int(attempt.given_up)}
        changes = {"last_failed_at": attempt.failed_at, "error": attempt.error}
        changes |= {"paused_until": attempt.retry_at, "failures": notification.failures + 1}
        changes |= {"host": attempt.host} if attempt.host is not None else {}

        def work(connection: Connection) -> None:
            if attempt.given_up:
                _remove(connection, notification)
            one_more = {"attempts": NOTIFICATION.c.attempts + 1}
            connection.execute(update(NOTIFICATION).where(*_is(notification)).values(one_more))
            _update_delivery(connection, notification.endpoint, counts, changes)

        self._database.write(work)

    def deliveries(self, endpoints: Iterable[str]) -> tuple[DeliveryStats, ...]:
        """Return the delivery statistics of these endpoints."""

        def query(connection: Connection) -> tuple[DeliveryStats, ...]:
            counted = select(NOTIFICATION.c.endpoint, func.count()).group_by(
                NOTIFICATION.c.endpoint
            )
            waiting: dict[str, int] = dict(map(tuple, connection.execute(counted)))
            found = {row[0]: row[1:] for row in connection.execute(select(*DELIVERY_COLUMNS))}
            return tuple(
                _delivery(name, waiting.get(name, 0), found.get(name)) for name in endpoints
            )

        return self._database.read(query)


def _due(now: float) -> Any:
    """Return the query for the next notification: the least tried one of the endpoints that are not
    paused.
    """
    paused = DELIVERY.c.paused_until
    return (
        select(
            *NOTIFICATION.c["endpoint", "job", "id", "body", "created_at", "attempts"],
            func.coalesce(DELIVERY.c.failures, 0),
            paused,
        )
        .select_from(WITH_DELIVERY)
        .where(or_(paused.is_(None), paused <= now, paused > now + MAX_PAUSE_SECONDS))
        .order_by(NOTIFICATION.c.attempts, NOTIFICATION.c.created_at)
        .limit(1)
    )


def _is(notification: PendingNotification) -> tuple[Any, ...]:
    columns = NOTIFICATION.c
    return (
        columns.endpoint == notification.endpoint,
        columns.job == notification.job,
        columns.id == notification.id,
    )


def _remove(connection: Connection, notification: PendingNotification) -> None:
    connection.execute(delete(NOTIFICATION).where(*_is(notification)))


def _update_delivery(
    connection: Connection, endpoint: str, counts: Mapping[str, int], changes: Mapping[str, Any]
) -> None:
    """Add these counts to the statistics of the endpoint, and set these columns."""
    new = {"endpoint": endpoint, "sent": 0, "failed": 0, "dropped": 0, "failures": 0}
    connection.execute(insert(DELIVERY).values(new).on_conflict_do_nothing())
    sums = {name: DELIVERY.c[name] + count for name, count in counts.items()}
    change = update(DELIVERY).where(DELIVERY.c.endpoint == endpoint)
    connection.execute(change.values({**sums, **changes}))


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
        _utc_time(last_sent_at),
        _utc_time(last_failed_at),
        error,
    )


def _utc_time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
