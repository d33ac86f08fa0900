"""Facts that syncd noticed and may lose: they decide nothing about files, and `status` shows most
of them.

Request usage, token expiries, repositories that a token is refused for, back-offs and heartbeat of
the daemon, deliveries of the webhook. A write here leaves the store's write counter as it is,
because no run depends on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Table, delete, func, select

from syncd.models import CommitSummary
from syncd.store import commit_summaries
from syncd.store.database import Database
from syncd.store.schema import (
    BACKOFF,
    HEARTBEAT,
    INSTALLATION,
    RATE_LIMIT,
    RELOAD_START,
    REQUEST_USAGE,
    STALENESS,
    TOKEN_EXPIRY,
    UNAVAILABLE_REPOSITORY,
    WEBHOOK,
)
from syncd.store.serialization import aware
from syncd.store.sqlite import insert, upsert

MAX_REPOSITORIES = 1000  # of a limit and hour; the others are counted under OTHERS
OTHERS = "others"
RELOAD_STARTS_KEPT = timedelta(days=366)  # the longest duration of a configuration
WEBHOOK_ROW = 1  # the id of the only row
FLEET_AWAY = "fleet_away"
REPOSITORY_MOVED, DELIVERY_MISSED, PUSH_UNMATCHED, DELIVERIES_READ = (
    "repository_moved",
    "delivery_missed",
    "push_unmatched",
    "deliveries_read",
)
DAEMON_ROW = "daemon"  # the name of the only heartbeat

LimitKey = tuple[str, int | None]  # identity, and the installation where it is an App


class LimitRow(Struct, frozen=True):
    """What GitHub last said of one hourly limit."""

    identity: str
    installation: int | None
    account: str | None
    limit: int | None
    remaining: int | None
    reset_at: datetime | None


class Usage(Struct, frozen=True):
    """Requests about each repository that count against one limit, in the hour that ends then."""

    key: LimitKey
    hour_ends_at: datetime
    requests: Mapping[str, int]


class WebhookFacts(Struct, frozen=True):
    """When the webhook last received an event, and what it last rejected."""

    last_at: datetime | None = None
    last_what: str | None = None
    refused_at: datetime | None = None
    refused_why: str | None = None


class Staleness(Struct, frozen=True):
    """One fact that makes changes come late, and fails no run.

    `reason` is one of five: `fleet_away` (`detail` is the error of the fleet's database),
    `repository_moved` (`subject` is IDENTITY/OWNER/NAME in lower case,
    `detail` GitHub's number), `delivery_missed` (`subject` is the job, `detail` the commit),
    `push_unmatched` (`subject` is OWNER/NAME, `detail` the ref), and `deliveries_read`, up to
    which delivery syncd has looked for missed ones (`subject` is API and App, `detail` its id).
    """

    reason: str
    subject: str
    detail: str
    since: datetime
    count: int = 1


class Heartbeat(Struct, frozen=True):
    """Sign of life of the daemon. `pid` is None after it was stopped in order."""

    host: str | None
    pid: int | None
    started_at: datetime
    beat_at: datetime


def usage_hour_end(now: datetime, reset_at: datetime | None) -> datetime:
    """Return the end of the hour that is counted.

    It is GitHub's reset time where it is known and to come, else the clock's hour.
    """
    if reset_at is not None and reset_at > now:
        return reset_at
    return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


class Facts:
    """The facts of one store. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_github(
        self,
        limits: Iterable[LimitRow] = (),
        usage: Iterable[Usage] = (),
        expiries: Mapping[str, datetime] | None = None,
    ) -> None:
        """Save what GitHub said of limits and tokens, and what was used, in one transaction.

        `expiries` replaces all stored ones. Unsynced: it is counted and said again.
        """
        limits, usage = list(limits), list(usage)
        if not limits and not usage and expiries is None:
            return

        def work(connection: Connection) -> None:
            for limit in limits:
                _save_limit(connection, limit)
            for one in usage:
                _add_usage(connection, one)
            if expiries is not None:
                rows = [
                    {"identity": name, "expires_at": at.isoformat()}
                    for name, at in expiries.items()
                ]
                _replace_all(connection, TOKEN_EXPIRY, rows)

        self._database.write(work, counted=False, synced=False)

    def limits(self) -> list[LimitRow]:
        """Return each known limit, without damaged rows."""
        columns = RATE_LIMIT.c[
            "identity", "installation", "account", "limit", "remaining", "reset_at"
        ]
        found = self._database.read(lambda connection: connection.execute(select(*columns)).all())
        return [limit for row in found if (limit := _limit(row)) is not None]

    def token_expiries(self) -> dict[str, datetime]:
        """Return for each identity when its token expires, for those that do."""
        query = select(*TOKEN_EXPIRY.c["identity", "expires_at"])
        found = {name: aware(text) for name, text in self._all(query)}
        return {name: at for name, at in found.items() if at is not None and isinstance(name, str)}

    def usage(self, now: datetime) -> dict[LimitKey, dict[str, int]]:
        """Return for each limit the requests of this hour by repository, the most first."""
        columns = REQUEST_USAGE.c["identity", "installation", "repo", "requests", "hour_ends_at"]
        found: dict[LimitKey, dict[str, int]] = {}
        for identity, installation, repo, requests, ends in self._all(select(*columns)):
            at = aware(ends)
            if (
                isinstance(identity, str)
                and isinstance(requests, int)
                and isinstance(repo, str)
                and at is not None
                and at > now
            ):
                found.setdefault((identity, installation or None), {})[repo] = requests
        return {key: _ordered(sums) for key, sums in found.items()}

    def unavailable_repositories(self, identity: str) -> dict[int, frozenset[str]]:
        """Return by installation the repositories, in lower case, that the identity's token is
        refused for.
        """
        columns = UNAVAILABLE_REPOSITORY.c["installation", "repo"]
        query = select(*columns).where(UNAVAILABLE_REPOSITORY.c.identity == identity)
        found: dict[int, frozenset[str]] = {}
        for installation, repo in self._all(query):
            if isinstance(installation, int) and isinstance(repo, str):
                found[installation] = found.get(installation, frozenset()) | {repo}
        return found

    def save_unavailable_repositories(
        self, identity: str, found: Mapping[int, frozenset[str]]
    ) -> None:
        """Save these repositories in the place of all of the identity's."""
        table = UNAVAILABLE_REPOSITORY
        rows = [
            {"identity": identity, "installation": installation, "repo": repo}
            for installation, repos in found.items()
            for repo in sorted(repos)
        ]

        def work(connection: Connection) -> None:
            connection.execute(delete(table).where(table.c.identity == identity))
            upsert(connection, table, rows)

        self._database.write(work, counted=False)

    def installations(self, identity: str) -> dict[str, tuple[int, str | None]]:
        """Return id and account of the App installation that covers each owner or moved repository.

        The keys are owners, or OWNER/NAME of repositories that have moved.
        """
        columns = INSTALLATION.c["covers", "installation_id", "account"]
        found = self._all(select(*columns).where(INSTALLATION.c.identity == identity))
        whole = (row for row in found if isinstance(row[0], str) and isinstance(row[1], int))
        return {covers: (number, _text(account)) for covers, number, account in whole}

    def save_installations(
        self, identity: str, found: Mapping[str, tuple[int, str | None]]
    ) -> None:
        """Save these installations in the place of all of the identity's."""
        rows = [
            {"identity": identity, "covers": covers, "installation_id": number, "account": account}
            for covers, (number, account) in found.items()
        ]

        def work(connection: Connection) -> None:
            connection.execute(delete(INSTALLATION).where(INSTALLATION.c.identity == identity))
            upsert(connection, INSTALLATION, rows)

        self._database.write(work, counted=False)

    def backoffs(self) -> dict[str, datetime]:
        """Return for each job until when the daemon waits after a failure."""
        found = {job: aware(text) for job, text in self._all(select(*BACKOFF.c["job", "until"]))}
        return {
            job: until for job, until in found.items() if until is not None and isinstance(job, str)
        }

    def save_backoffs(self, backoffs: Mapping[str, datetime]) -> None:
        """Save these back-offs in the place of all."""
        rows = [{"job": job, "until": until.isoformat()} for job, until in backoffs.items()]
        self._database.write(
            lambda connection: _replace_all(connection, BACKOFF, rows), counted=False
        )

    def reload_start(self, command: str) -> datetime | None:
        """Return when the command of `on_change` last began."""
        query = select(RELOAD_START.c.started_at).where(RELOAD_START.c.command == command)
        return next((aware(text) for (text,) in self._all(query)), None)

    def save_reload_start(self, command: str, at: datetime) -> None:
        """Save that the command begins now, and forget commands of more than a year ago."""
        row = {"command": command, "started_at": at.isoformat()}
        too_old = (at - RELOAD_STARTS_KEPT).isoformat()

        def work(connection: Connection) -> None:
            connection.execute(delete(RELOAD_START).where(RELOAD_START.c.started_at < too_old))
            upsert(connection, RELOAD_START, [row])

        self._database.write(work, counted=False)

    def webhook(self) -> WebhookFacts:
        """Return what the webhook last received and rejected."""
        columns = WEBHOOK.c["last_at", "last_what", "refused_at", "refused_why"]
        for last_at, last_what, refused_at, refused_why in self._all(select(*columns)):
            return WebhookFacts(
                aware(last_at), _text(last_what), aware(refused_at), _text(refused_why)
            )
        return WebhookFacts()

    def save_webhook(self, facts: WebhookFacts) -> None:
        """Save what the webhook last received and rejected."""
        times = {"last_at": facts.last_at, "refused_at": facts.refused_at}
        row: dict[str, Any] = {
            name: at.isoformat() if at is not None else None for name, at in times.items()
        }
        row |= {"id": WEBHOOK_ROW, "last_what": facts.last_what, "refused_why": facts.refused_why}
        self._database.write(lambda connection: upsert(connection, WEBHOOK, [row]), counted=False)

    def staleness(self) -> tuple[Staleness, ...]:
        """Return everything that makes changes come late, the oldest first."""
        columns = STALENESS.c["reason", "subject", "detail", "since", "count"]
        query = select(*columns).order_by(STALENESS.c.since, STALENESS.c.subject)
        found = (
            Staleness(reason, subject, detail, at, count)
            for reason, subject, detail, since, count in self._all(query)
            if (at := aware(since)) is not None
            and all(isinstance(text, str) for text in (reason, subject, detail))
            and isinstance(count, int)
        )
        return tuple(found)

    def save_staleness(self, reason: str, facts: Iterable[Staleness]) -> None:
        """Save these facts in the place of all with this reason."""
        rows = [
            {
                "reason": reason,
                "subject": one.subject,
                "detail": one.detail,
                "since": one.since.isoformat(),
                "count": one.count,
            }
            for one in facts
        ]

        def work(connection: Connection) -> None:
            connection.execute(delete(STALENESS).where(STALENESS.c.reason == reason))
            upsert(connection, STALENESS, rows)

        self._database.write(work, counted=False)

    def save_commit_summary(self, commit: str, summary: CommitSummary, at: datetime) -> None:
        """Save who made the commit."""
        self._database.write(
            lambda connection: commit_summaries.add(connection, commit, summary, at), counted=False
        )

    def commit_summaries(self, commits: Collection[str]) -> dict[str, CommitSummary]:
        """Return who made these commits, as far as that is known."""
        if not commits:
            return {}
        return self._database.read(
            lambda connection: commit_summaries.summaries_of(connection, commits)
        )

    def heartbeat(self) -> Heartbeat | None:
        """Return the daemon's last sign of life; None where no daemon has run."""
        columns = HEARTBEAT.c["host", "pid", "started_at", "beat_at"]
        query = select(*columns).where(HEARTBEAT.c.name == DAEMON_ROW)
        for host, pid, started, beat in self._all(query):
            started_at, beat_at = aware(started), aware(beat)
            if started_at is not None and beat_at is not None:
                return Heartbeat(
                    _text(host), pid if isinstance(pid, int) else None, started_at, beat_at
                )
        return None

    def save_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Save the daemon's sign of life."""
        row: dict[str, Any] = {
            "name": DAEMON_ROW,
            "host": heartbeat.host,
            "pid": heartbeat.pid,
            "started_at": heartbeat.started_at.isoformat(),
            "beat_at": heartbeat.beat_at.isoformat(),
        }
        self._database.write(lambda connection: upsert(connection, HEARTBEAT, [row]), counted=False)

    def _all(self, query: Any) -> Sequence[Any]:
        return self._database.read(lambda connection: connection.execute(query).all())


def _save_limit(connection: Connection, limit: LimitRow) -> None:
    """Save the limit; delete those of the account's other installations, which no longer exist."""
    table = RATE_LIMIT
    if limit.account is not None:
        gone = (table.c.identity == limit.identity, table.c.account == limit.account)
        connection.execute(delete(table).where(*gone))
    row = {
        "identity": limit.identity,
        "installation": limit.installation or 0,
        "account": limit.account,
        "limit": limit.limit,
        "remaining": limit.remaining,
        "reset_at": limit.reset_at.isoformat() if limit.reset_at is not None else None,
    }
    upsert(connection, table, [row])


def _limit(row: Sequence[Any]) -> LimitRow | None:
    identity, installation, account, limit, remaining, reset_at = row
    at = aware(reset_at)
    fits = (
        isinstance(identity, str)
        and isinstance(installation, int)
        and (at is None) == (reset_at is None)
    )
    fits = fits and all(value is None or isinstance(value, int) for value in (limit, remaining))
    fits = fits and (account is None or isinstance(account, str))
    return LimitRow(identity, installation or None, account, limit, remaining, at) if fits else None


def _add_usage(connection: Connection, usage: Usage) -> None:
    """Add to the sums of the hour, and delete those of other hours."""
    table, (identity, installation), ends = REQUEST_USAGE, usage.key, usage.hour_ends_at.isoformat()
    mine = (table.c.identity == identity, table.c.installation == (installation or 0))
    connection.execute(delete(table).where(*mine, table.c.hour_ends_at != ends))
    count = select(func.count()).where(*mine)
    for repo, requests in usage.requests.items():
        known = (
            connection.execute(select(table.c.repo).where(*mine, table.c.repo == repo)).first()
            is not None
        )
        full = not known and connection.execute(count).scalar_one() >= MAX_REPOSITORIES
        new = insert(table).values(
            identity=identity,
            installation=installation or 0,
            repo=OTHERS if full else repo,
            requests=requests,
            hour_ends_at=ends,
        )
        more = {"requests": table.c.requests + new.excluded.requests}
        keys = ["identity", "installation", "repo"]
        connection.execute(new.on_conflict_do_update(index_elements=keys, set_=more))


def _ordered(sums: Mapping[str, int]) -> dict[str, int]:
    """Return the sums, the largest first, and OTHERS last."""
    return dict(sorted(sums.items(), key=lambda one: (one[0] == OTHERS, -one[1], one[0])))


def _replace_all(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    connection.execute(delete(table))
    upsert(connection, table, rows)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


__all__ = [
    "DELIVERIES_READ",
    "DELIVERY_MISSED",
    "PUSH_UNMATCHED",
    "REPOSITORY_MOVED",
    "Facts",
    "LimitKey",
    "LimitRow",
    "Staleness",
    "Usage",
    "WebhookFacts",
    "usage_hour_end",
]
