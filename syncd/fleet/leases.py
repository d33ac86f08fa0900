"""Row leases: any number of controllers share the jobs, and any of them may die, freeze or be cut
off.

Only the server's clock counts. A claim raises the job's epoch, and what an earlier holder writes
later names an epoch that is no more. An expired lease may be renewed until another controller has
claimed the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Interval,
    Row,
    Text,
    any_,
    bindparam,
    case,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from syncd.fleet.bulk import rows_of
from syncd.fleet.schema import JOB, REVISION
from syncd.models import Job
from syncd.ports import Head

NOW = func.clock_timestamp()
MAX_ERROR_CHARACTERS = 1000


class Lease(Struct, frozen=True):
    """A claimed job: what is known of it, and the epoch that its writes have to name.

    `head` is what its ref named at the last poll; `published` is the commit of its last revision,
    which was made with `settings`. `now` is the server's time of the claim.
    """

    job_id: int
    job: str
    epoch: int
    now: datetime
    head: Head | None = None
    published: str | None = None
    settings: str | None = None
    failures: int = 0


class PollResult(Struct, frozen=True):
    """How a poll ended, and when the next one is due, in seconds from now."""

    next_seconds: float
    head: Head | None = None
    error_id: str | None = None
    error: str | None = None


def register(connection: Connection, jobs: Mapping[str, Job]) -> None:
    """Write which jobs there are. What else is known of them stays.

    A job that follows another repository or ref forgets what the earlier one named, and is due.
    """
    if not jobs:
        return
    columns = list(JOB.c["name", "repo", "ref", "selector"])
    rows = [(name, job.repo, job.ref, dict(job.where)) for name, job in jobs.items()]
    given = select(rows_of(columns, rows))
    new = insert(JOB).from_select([column.name for column in columns], given)
    other = or_(JOB.c.repo != new.excluded.repo, JOB.c.ref.is_distinct_from(new.excluded.ref))
    forgotten = ("head_commit", "head_etag", "head_form", "settings")
    changed = {
        "repo": new.excluded.repo,
        "ref": new.excluded.ref,
        "selector": new.excluded.selector,
        "next_at": case((other, NOW), else_=JOB.c.next_at),
        **{name: case((other, null()), else_=JOB.c[name]) for name in forgotten},
    }
    differs = or_(other, JOB.c.selector != new.excluded.selector)
    connection.execute(
        new.on_conflict_do_update(index_elements=[JOB.c.name], set_=changed, where=differs)
    )


def listed_otherwise(connection: Connection, settings: Mapping[str, str]) -> set[str]:
    """Return the jobs whose last revision was made with other settings than these."""
    query = select(JOB.c.name, JOB.c.settings).where(JOB.c.settings.is_not(None))
    rows = connection.execute(query)
    return {row.name for row in rows if settings.get(row.name, row.settings) != row.settings}


def are_registered(connection: Connection, jobs: Iterable[str]) -> bool:
    """Return whether the database has every job: a restore or a failover may lose some."""
    names = set(jobs)
    known = select(func.count()).select_from(JOB).where(JOB.c.name.in_(names))
    return int(connection.execute(known).scalar_one()) == len(names)


def claim(
    connection: Connection, worker: str, jobs: Iterable[str], ttl_seconds: float, at_most: int
) -> list[Lease]:
    """Claim jobs that are due and that no living controller holds.

    The jobs of one repository and ref come together, so that they share an answer of GitHub.
    """
    names = bindparam("names", list(jobs), type_=ARRAY(Text))
    due = (
        select(JOB.c.id)
        .where(JOB.c.name == any_(names), JOB.c.next_at <= NOW, JOB.c.halted_at.is_(None))
        .where(or_(JOB.c.lease_until.is_(None), JOB.c.lease_until <= NOW))
        .order_by(JOB.c.next_at, JOB.c.repo, JOB.c.ref)
        .limit(at_most)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    claimed = (
        update(JOB)
        .where(JOB.c.id == due.c.id)
        .values(
            worker=worker, lease_until=NOW + timedelta(seconds=ttl_seconds), epoch=JOB.c.epoch + 1
        )
        .returning(JOB, NOW.label("now"))
    )
    rows = list(connection.execute(claimed))
    published = _published(connection, [row.id for row in rows])
    return [_lease(row, published.get(row.id)) for row in rows]


def _lease(row: Row[Any], published: str | None) -> Lease:
    head = None
    if row.head_commit is not None:
        etag, form, checked_at = row.head_etag, row.head_form, row.head_checked_at
        head = Head(row.head_commit, etag, form, checked_at=checked_at)
    facts = (published, row.settings, row.failures)
    return Lease(row.id, row.name, row.epoch, row.now, head, *facts)


def _published(connection: Connection, jobs: Sequence[int]) -> dict[int, str]:
    """Return the commit of each job's last revision."""
    of_job = select(REVISION.c.job_id, REVISION.c.commit_sha).join(JOB)
    last = of_job.where(REVISION.c.sequence == JOB.c.sequence, JOB.c.id.in_(jobs))
    return {row.job_id: row.commit_sha for row in connection.execute(last)} if jobs else {}


def renew(connection: Connection, leases: Iterable[Lease], ttl_seconds: float) -> set[str]:
    """Renew leases; return the jobs that are still held."""
    held = set()
    until = NOW + timedelta(seconds=ttl_seconds)
    for lease in sorted(leases, key=lambda one: one.job_id):  # in one order: no deadlock
        kept = update(JOB).where(*_is(lease)).values(lease_until=until)
        if connection.execute(kept).rowcount:
            held.add(lease.job)
    return held


def release(connection: Connection, lease: Lease, result: PollResult | None) -> bool:
    """Give a job back: with what its poll found, or as due at once where it was not polled.

    Returns False where another controller has claimed it since; nothing is written then.
    """
    values: dict[str, object] = {"worker": None, "lease_until": None}
    if result is not None:
        values |= {
            "next_at": NOW + timedelta(seconds=result.next_seconds),
            "polled_at": NOW,
            "failures": 0 if result.error is None else JOB.c.failures + 1,
            "error_id": result.error_id,
            "error": None if result.error is None else result.error[:MAX_ERROR_CHARACTERS],
        }
        if result.head is not None:
            values |= {
                "head_commit": result.head.commit,
                "head_etag": result.head.etag,
                "head_form": result.head.form,
                "head_checked_at": result.head.checked_at,
            }
    given_back = update(JOB).where(*_is(lease)).values(values)
    return connection.execute(given_back).rowcount == 1


def release_unchanged(connection: Connection, waits: Iterable[tuple[Lease, float]]) -> None:
    """Give jobs back whose head is as it was; each is due again after so many seconds.

    What another controller has claimed since stays as it is.
    """
    rows = [
        {"job": lease.job_id, "held": lease.epoch, "wait": timedelta(seconds=seconds)}
        for lease, seconds in sorted(waits, key=lambda one: one[0].job_id)
    ]
    given_back = update(JOB).where(JOB.c.id == bindparam("job"), JOB.c.epoch == bindparam("held"))
    next_at = NOW + bindparam("wait", type_=Interval)
    free = {"worker": None, "lease_until": None, "polled_at": NOW, "next_at": next_at}
    good = {"failures": 0, "error_id": None, "error": None}
    if rows:
        connection.execute(given_back.values({**free, **good}), rows)


def _is(lease: Lease) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the condition that this claim of the job is the last one."""
    return JOB.c.id == lease.job_id, JOB.c.epoch == lease.epoch


def make_due(connection: Connection, jobs: Iterable[str]) -> None:
    """Let jobs be polled at once."""
    connection.execute(update(JOB).where(JOB.c.name.in_(list(jobs))).values(next_at=NOW))


def seconds_until_due(connection: Connection, jobs: Iterable[str]) -> float | None:
    """Return when the next job can be claimed; None where there is none."""
    at = func.greatest(JOB.c.next_at, func.coalesce(JOB.c.lease_until, JOB.c.next_at))
    wait = func.extract("epoch", func.min(at) - NOW)
    polled = select(wait).where(JOB.c.name.in_(list(jobs)), JOB.c.halted_at.is_(None))
    found = connection.execute(polled).scalar_one()
    return None if found is None else max(0.0, float(found))


__all__ = [
    "Lease",
    "PollResult",
    "are_registered",
    "claim",
    "listed_otherwise",
    "make_due",
    "register",
    "release",
    "release_unchanged",
    "renew",
    "seconds_until_due",
]
