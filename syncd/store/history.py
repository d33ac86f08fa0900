"""What each run did: history rows, bounded.

A run that changed nothing and failed at nothing leaves no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, select, update

from syncd.models import ActionKind, Change, RunReport, RunStatus, Trigger
from syncd.store.schema import CHANGE, RUN
from syncd.store.serialization import PastChange, PastRun, past_change, past_run
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
]
PAST_CHANGE = CHANGE.c["action", "path", "source", "before_sha", "after_sha"]
PUT_CHANGE = text_of(
    insert(CHANGE).values({column.name: None for column in CHANGE.columns if column.name != "id"})
)


def add(connection: Connection, report: RunReport) -> None:
    """The run and its changes are in the history.

    A failure that repeats the job's last row only moves that row's time.
    """
    if report.status in (RunStatus.UNCHANGED, RunStatus.SKIPPED) and not report.changes:
        return
    values = _run_values(report)
    newest = connection.execute(
        select(*RUN.c["id", "status", "error", "commit_sha"])
        .where(RUN.c.job == report.job)
        .order_by(RUN.c.id.desc())
        .limit(1)
    ).first()
    same = (values["status"], values["error"], values["commit_sha"])
    if (
        newest is not None
        and tuple(newest[1:]) == same
        and _says_nothing_new(connection, newest[0], report)
    ):
        connection.execute(update(RUN).where(RUN.c.id == newest[0]).values(values))
        return
    (number,) = connection.execute(insert(RUN).values(values)).inserted_primary_key or (None,)
    changes = [
        (number, change.action.value, change.path, change.source, change.before, change.after)
        for change in report.changes[:CHANGES_KEPT_PER_RUN]
    ]
    if changes:
        connection.exec_driver_sql(PUT_CHANGE, changes)
    kept = (
        select(RUN.c.id).where(RUN.c.job == report.job).order_by(RUN.c.id.desc()).limit(RUNS_KEPT)
    )
    connection.execute(delete(RUN).where(RUN.c.job == report.job, RUN.c.id.not_in(kept)))
    if report.changes:
        _forget_old_changes(connection, report.job)


def _run_values(report: RunReport) -> dict[str, Any]:
    return {
        "job": report.job,
        "repo": report.repo,
        "ref": report.ref,
        "started_at": report.started_at.isoformat() if report.started_at else "",
        "trigger": report.trigger.value,
        "status": report.status.value,
        "commit_sha": report.commit,
        "previous_commit_sha": report.previous,
        "seconds": report.seconds,
        "bytes_written": report.bytes_written,
        "requests": report.requests,
        "error_kind": report.error.kind if report.error else None,
        "error": report.error.message if report.error else None,
    }


def _forget_old_changes(connection: Connection, job: str) -> None:
    """The oldest runs keep their row, and lose what they changed, when the job has more changes
    than are kept.
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


def _says_nothing_new(connection: Connection, run: int, report: RunReport) -> bool:
    """The same files left alone as the last time, and nothing else: an hour of that is one row, not
    twelve.
    """
    if any(change.action is not ActionKind.KEEP for change in report.changes):
        return False
    found = connection.execute(select(*CHANGE.c["path", "before_sha"]).where(CHANGE.c.run == run))
    return {tuple(row) for row in found} == {
        (change.path, change.before) for change in report.changes
    }


def changed_paths(connection: Connection, name: str) -> list[str]:
    """Every path in the history whose last name is `name`, ASCII letters in any case."""
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
    """Past runs, newest first; only those that changed one of `paths` when there are any, with only
    those changes then.
    """
    query = select(*PAST_RUN, _went_back()).order_by(RUN.c.id.desc()).limit(limit)
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
            one = past_change(row)
            if run in changes and one is not None:
                changes[run].append(one)
    read = (past_run(row[:-1], tuple(changes[row[0]]), bool(row[-1])) for row in found)
    return [run for run in read if run is not None]


def _went_back() -> Any:
    """Whether the run brought a commit that the job had had before, and left."""
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
    """Everything the job's runs that began at or after `since` did, the oldest first, as far as the
    history goes back.
    """
    chosen = (
        select(*PAST_CHANGE)
        .join_from(CHANGE, RUN, RUN.c.id == CHANGE.c.run)
        .where(RUN.c.job == job, RUN.c.started_at >= since.isoformat())
        .order_by(CHANGE.c.id)
    )
    read = (past_change(row) for row in connection.execute(chosen).all())
    return tuple(
        Change(ActionKind(one.action), one.path, one.source, one.before, one.after)
        for one in read
        if one is not None and one.action in set(ActionKind)
    )


def has_commit(connection: Connection, job: str, commit: str) -> bool:
    """Whether a run of the job brought the commit."""
    query = select(RUN.c.id).where(
        RUN.c.job == job, RUN.c.commit_sha == commit, RUN.c.status == RunStatus.CHANGED.value
    )
    return connection.execute(query.limit(1)).first() is not None


__all__ = ["add", "changed_paths", "changes_since", "has_commit", "history"]
