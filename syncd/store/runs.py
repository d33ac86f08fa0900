"""What each run did: history rows, bounded. A run that changed nothing and failed at nothing leaves no row."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, delete, exists, func, select
from sqlalchemy.dialects.sqlite import insert

from syncd.models import Change, RunReport, RunStatus, Trigger, Verb
from syncd.store import schema
from syncd.store.rows import PastChange, PastRun, past_change, past_run

RUNS_KEPT = 500
CHANGES_KEPT_PER_RUN = 20_000
CHANGES_KEPT = 100_000  # of each job


def add(connection: Connection, report: RunReport) -> None:
    """The run and its changes are in the history. A failure that repeats the job's last row only moves that row's time."""
    if report.status in (RunStatus.UNCHANGED, RunStatus.SKIPPED) and not report.changes:
        return
    table = schema.run
    values = {
        "job": report.job, "started_at": report.started_at.isoformat() if report.started_at else "", "trigger": report.trigger.value, "status": report.status.value,
        "commit": report.commit, "previous": report.previous, "seconds": report.seconds, "bytes": report.bytes_written,
        "error_kind": report.error.kind if report.error else None, "error": report.error.message if report.error else None,
    }  # fmt: skip
    newest = connection.execute(select(table).where(table.c.job == report.job).order_by(table.c.id.desc()).limit(1)).first()
    if newest is not None and (newest.status, newest.error, newest.commit) == (values["status"], values["error"], values["commit"]) and _says_nothing_new(connection, newest.id, report):
        connection.execute(table.update().where(table.c.id == newest.id).values(**values))
        return
    identity = connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one()
    if report.changes:
        connection.execute(
            insert(schema.change),
            [
                {"run": identity, "action": change.action.value, "path": change.path, "source": change.source, "before": change.before, "after": change.after}
                for change in report.changes[:CHANGES_KEPT_PER_RUN]
            ],
        )
    kept = select(table.c.id).where(table.c.job == report.job).order_by(table.c.id.desc()).limit(RUNS_KEPT)
    connection.execute(delete(table).where(table.c.job == report.job, table.c.id.not_in(kept)))
    if report.changes:
        _forget_old_changes(connection, report.job)


def _forget_old_changes(connection: Connection, job: str) -> None:
    """The oldest runs keep their row, and lose what they changed, when the job has more changes than are kept."""
    run, change = schema.run, schema.change
    counts = select(run.c.id, func.count(change.c.id)).join(change, change.c.run == run.c.id).where(run.c.job == job).group_by(run.c.id).order_by(run.c.id.desc())
    total = 0
    for identity, count in connection.execute(counts).all():
        total += count
        if total > CHANGES_KEPT and total > count:  # the newest run keeps its own
            connection.execute(delete(change).where(change.c.run == identity))


def _says_nothing_new(connection: Connection, run: int, report: RunReport) -> bool:
    """The same files left alone as the last time, and nothing else: an hour of that is one row, not twelve."""
    if any(change.action is not Verb.KEEP for change in report.changes):
        return False
    table = schema.change
    known = {(row.path, row.before) for row in connection.execute(select(table.c.path, table.c.before).where(table.c.run == run))}
    return known == {(change.path, change.before) for change in report.changes}


def history(connection: Connection, job: str | None, path: str | None, limit: int) -> list[PastRun]:
    """Past runs, newest first; only those that touched `path` when it is given, with only its changes then."""
    run, change, older = schema.run, schema.change, schema.run.alias()
    before = exists().where(older.c.job == run.c.job, older.c.commit == run.c.commit, older.c.status == RunStatus.CHANGED.value, older.c.id < run.c.id)
    went_back = and_(run.c.status == RunStatus.CHANGED.value, run.c.trigger != Trigger.ROLLBACK.value, run.c.previous != run.c.commit, before)
    query = select(run, went_back.label("went_back")).order_by(run.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(run.c.job == job)
    if path is not None:
        query = query.where(run.c.id.in_(select(change.c.run).where(change.c.path == path)))
    found = connection.execute(query).all()
    changes: dict[int, list[PastChange]] = {row.id: [] for row in found}
    chosen = select(change).where(change.c.run.in_(list(changes))).order_by(change.c.id)
    for row in connection.execute(chosen if path is None else chosen.where(change.c.path == path)):
        if row.run in changes and (one := past_change(row.action, row.path, row.source, row.before, row.after)) is not None:
            changes[row.run].append(one)
    return [read for row in found if (read := past_run(row, tuple(changes[row.id]))) is not None]


def changes_since(connection: Connection, job: str, since: datetime) -> tuple[Change, ...]:
    """Everything the job's runs that began at or after `since` did, the oldest first, as far as the history goes back."""
    run, change = schema.run, schema.change
    chosen = select(change).join(run, run.c.id == change.c.run).where(run.c.job == job, run.c.started_at >= since.isoformat()).order_by(change.c.id)
    read = (past_change(row.action, row.path, row.source, row.before, row.after) for row in connection.execute(chosen))
    return tuple(Change(Verb(one.action), one.path, one.source, one.before, one.after) for one in read if one is not None and one.action in set(Verb))
