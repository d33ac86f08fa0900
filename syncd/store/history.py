"""The history of runs and their changes, bounded in size.

A run that changed nothing and did not fail leaves no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, and_, delete, exists, func, select, update

from syncd.models import ActionKind, Change, RunReport, RunStatus, Trigger
from syncd.store import commit_summaries
from syncd.store.schema import CHANGE, RUN
from syncd.store.sqlite import in_parts, insert, text_of

RUNS_KEPT = 500
CHANGES_KEPT_PER_RUN = 20_000
CHANGES_KEPT = 100_000  # of each job
PAST_RUN = RUN.c[
    "id",
    "job",
    "started_at",
    "trigger",
    "status",
    "commit_sha",
    "previous_commit_sha",
    "seconds",
    "bytes_written",
    "error_kind",
    "error",
    "overrode",
    "first_started_at",
]
PAST_CHANGE = CHANGE.c["action", "path", "source", "before_sha", "after_sha"]
PUT_CHANGE = text_of(
    insert(CHANGE).values({column.name: None for column in CHANGE.columns if column.name != "id"})
)


class PastChange(Struct, frozen=True):
    """One change of a past run."""

    action: str
    path: str
    source: str | None
    before: str | None
    after: str | None


class PastRun(Struct, frozen=True):
    """One past run, with those of its changes that were asked for."""

    id: int
    job: str
    started_at: str
    trigger: str
    status: str
    commit: str | None
    previous: str | None
    seconds: float
    bytes: int
    error_kind: str | None
    error: str | None
    overrode: str | None = None  # what of `apply:` would have kept the commit, but for `--now`
    first_started_at: str | None = None  # of the runs in a row with this result, the first
    changes: tuple[PastChange, ...] = ()
    went_back: bool = False  # to a commit that the job had applied before and left


def add(connection: Connection, report: RunReport) -> None:
    """Add the run and its changes.

    A failure that repeats the last row of the job only moves that row's time. A commit that waits
    has one row.
    """
    if report.status in (RunStatus.UNCHANGED, RunStatus.SKIPPED) and not report.changes:
        return
    values = _run_values(report)
    commit, summary = values["commit_sha"], report.commit_summary
    if summary is not None and commit is not None and report.started_at is not None:
        commit_summaries.add(connection, commit, summary, report.started_at)
    repeated = _repeated_run(connection, report, values)
    if repeated is not None and report.status is RunStatus.WAITING:
        return
    if repeated is not None:
        connection.execute(update(RUN).where(RUN.c.id == repeated).values(values))
        return
    values["first_started_at"] = values["started_at"]
    (number,) = connection.execute(insert(RUN).values(values)).inserted_primary_key or (None,)
    changes = [
        (number, change.action.value, change.path, change.source, change.before, change.after)
        for change in report.changes[:CHANGES_KEPT_PER_RUN]
    ]
    if changes:
        connection.exec_driver_sql(PUT_CHANGE, changes)
    _delete_old_runs(connection, report.job)
    if report.changes:
        _delete_old_changes(connection, report.job)


def _repeated_run(
    connection: Connection, report: RunReport, values: Mapping[str, Any]
) -> int | None:
    """Return the id of the job's last run, if this run had the same result."""
    query = select(*RUN.c["id", "status", "error", "commit_sha"]).where(RUN.c.job == report.job)
    newest = connection.execute(query.order_by(RUN.c.id.desc()).limit(1)).first()
    if newest is None:
        return None
    number, *rest = newest
    is_same = rest == [values["status"], values["error"], values["commit_sha"]]
    return number if is_same and _has_same_changes(connection, number, report) else None


def _delete_old_runs(connection: Connection, job: str) -> None:
    kept = select(RUN.c.id).where(RUN.c.job == job).order_by(RUN.c.id.desc()).limit(RUNS_KEPT)
    connection.execute(delete(RUN).where(RUN.c.job == job, RUN.c.id.not_in(kept)))


def _run_values(report: RunReport) -> dict[str, Any]:
    return {
        "job": report.job,
        "repo": report.repo,
        "ref": report.ref,
        "started_at": report.started_at.isoformat() if report.started_at else "",
        "trigger": report.trigger.value,
        "status": report.status.value,
        "commit_sha": _commit_of(report),
        "previous_commit_sha": report.previous,
        "seconds": report.seconds,
        "bytes_written": report.bytes_written,
        "requests": report.requests,
        "error_kind": report.error.kind if report.error else None,
        "error": report.error.message if report.error else None,
        "overrode": report.overrode,
    }


def _commit_of(report: RunReport) -> str | None:
    """Return the commit that the run was about: the one that waits, where it did nothing else."""
    if report.status is RunStatus.WAITING and report.waiting is not None:
        return report.waiting.commit
    return report.commit


def _delete_old_changes(connection: Connection, job: str) -> None:
    """Delete the changes of the oldest runs, when the job has more changes than are kept.

    The runs stay.
    """
    counts = (
        select(RUN.c.id, func.count(CHANGE.c.id))
        .join_from(RUN, CHANGE, CHANGE.c.run == RUN.c.id)
        .where(RUN.c.job == job)
        .group_by(RUN.c.id)
        .order_by(RUN.c.id.desc())
    )
    total = 0
    for run, count in connection.execute(counts).all():
        total += count
        if total > CHANGES_KEPT and total > count:  # the newest run keeps its own
            connection.execute(delete(CHANGE).where(CHANGE.c.run == run))


def _has_same_changes(connection: Connection, run: int, report: RunReport) -> bool:
    """Return whether the run left the same files alone as the last one, and did nothing else.

    An hour of such runs is one row, not twelve.
    """
    if any(change.action is not ActionKind.KEEP for change in report.changes):
        return False
    found = connection.execute(select(*CHANGE.c["path", "before_sha"]).where(CHANGE.c.run == run))
    return {tuple(row) for row in found} == {
        (change.path, change.before) for change in report.changes
    }


def changed_paths(connection: Connection, name: str) -> list[str]:
    """Return each path in the history whose last name is `name`, ASCII letters in any case."""
    ends = CHANGE.c.path.like("%/" + _escaped(name), escape="\\")
    found = connection.execute(select(CHANGE.c.path).distinct().where(ends)).scalars()
    return [path for path in found if isinstance(path, str)]


def _escaped(name: str) -> str:
    for special in "\\%_":
        name = name.replace(special, f"\\{special}")
    return name


def history(
    connection: Connection, job: str | None, paths: Sequence[str], limit: int
) -> list[PastRun]:
    """Return past runs by the time they began, newest first.

    Side by side they end in another order, and a failure that repeats keeps its row.
    With `paths`, only those that changed one of them, with only those changes.
    """
    newest = (RUN.c.started_at.desc(), RUN.c.id.desc())
    query = select(*PAST_RUN, _went_back()).order_by(*newest).limit(limit)
    if job is not None:
        query = query.where(RUN.c.job == job)
    if paths:
        query = query.where(RUN.c.id.in_(select(CHANGE.c.run).where(CHANGE.c.path.in_(paths))))
    found = connection.execute(query).all()
    changes: dict[Any, list[PastChange]] = {row[0]: [] for row in found}
    for part in in_parts(changes):
        chosen = (
            select(CHANGE.c.run, *PAST_CHANGE).where(CHANGE.c.run.in_(part)).order_by(CHANGE.c.id)
        )
        if paths:
            chosen = chosen.where(CHANGE.c.path.in_(paths))
        for run, *row in connection.execute(chosen).all():
            one = _past_change(row)
            if run in changes and one is not None:
                changes[run].append(one)
    read = (_past_run(row[:-1], tuple(changes[row[0]]), bool(row[-1])) for row in found)
    return [run for run in read if run is not None]


def runs_of(connection: Connection, job: str, limit: int) -> list[tuple[PastRun, int]]:
    """Return past runs of the job without their changes, newest first, each with how many changes
    it has.
    """
    count = select(func.count(CHANGE.c.id)).where(CHANGE.c.run == RUN.c.id).scalar_subquery()
    query = select(*PAST_RUN, count).where(RUN.c.job == job)
    query = query.order_by(RUN.c.started_at.desc(), RUN.c.id.desc()).limit(limit)
    read = ((_past_run(row[:-1], (), False), row[-1]) for row in connection.execute(query).all())
    return [(run, int(changes)) for run, changes in read if run is not None]


def run_of(connection: Connection, number: int) -> PastRun | None:
    """Return the run with this id and its changes; None where there is none."""
    row = connection.execute(select(*PAST_RUN).where(RUN.c.id == number)).first()
    if row is None:
        return None
    chosen = select(*PAST_CHANGE).where(CHANGE.c.run == number).order_by(CHANGE.c.id)
    read = (_past_change(change) for change in connection.execute(chosen).all())
    return _past_run(row, tuple(one for one in read if one is not None), False)


def _went_back() -> Any:
    """Return the condition that the run returned to a commit that the job had applied before and
    left.
    """
    older = RUN.alias("older")
    before = exists().where(
        older.c.job == RUN.c.job,
        older.c.commit_sha == RUN.c.commit_sha,
        older.c.status == RunStatus.CHANGED.value,
        older.c.id < RUN.c.id,
    )
    return and_(
        RUN.c.status == RunStatus.CHANGED.value,
        RUN.c.trigger != Trigger.ROLLBACK.value,
        RUN.c.previous_commit_sha != RUN.c.commit_sha,
        before,
    )


def changes_since(connection: Connection, job: str, since: datetime) -> tuple[Change, ...]:
    """Return what the job's runs since then did, oldest first, as far as the history goes back."""
    chosen = (
        select(*PAST_CHANGE)
        .join_from(CHANGE, RUN, RUN.c.id == CHANGE.c.run)
        .where(RUN.c.job == job, RUN.c.started_at >= since.isoformat())
        .order_by(CHANGE.c.id)
    )
    read = (_past_change(row) for row in connection.execute(chosen).all())
    return tuple(
        Change(ActionKind(one.action), one.path, one.source, one.before, one.after)
        for one in read
        if one is not None and one.action in set(ActionKind)
    )


def has_commit(connection: Connection, job: str, commit: str) -> bool:
    """Return whether a run of the job applied the commit."""
    query = select(RUN.c.id).where(
        RUN.c.job == job, RUN.c.commit_sha == commit, RUN.c.status == RunStatus.CHANGED.value
    )
    return connection.execute(query.limit(1)).first() is not None


def _past_change(row: Sequence[Any]) -> PastChange | None:
    """Return the change of a row; None where damage has changed the types of its values."""
    action, path, *rest = row
    fits = isinstance(action, str) and isinstance(path, str)
    fits = fits and all(value is None or isinstance(value, str) for value in rest)
    return PastChange(action, path, *rest) if fits else None


def _past_run(
    row: Sequence[Any], changes: tuple[PastChange, ...], went_back: bool
) -> PastRun | None:
    """Return the run of a row, in the order of PastRun's fields; None where damage has changed the
    types.
    """
    number, *texts, seconds, size, kind, error, overrode, first = row
    job, started_at, trigger, status, commit, previous = texts
    fits = all(isinstance(value, str) for value in (job, started_at, trigger, status))
    fits = fits and all(
        value is None or isinstance(value, str)
        for value in (commit, previous, kind, error, overrode, first)
    )
    if not fits or not isinstance(seconds, (int, float)) or not isinstance(size, int):
        return None
    return PastRun(
        number,
        job,
        started_at,
        trigger,
        status,
        commit,
        previous,
        seconds,
        size,
        kind,
        error,
        overrode,
        first,
        changes,
        went_back,
    )


__all__ = [
    "PastChange",
    "PastRun",
    "add",
    "changed_paths",
    "changes_since",
    "has_commit",
    "history",
    "run_of",
    "runs_of",
]
