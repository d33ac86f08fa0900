"""What each run did: history rows, bounded. A run that changed nothing and failed at nothing leaves no row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from syncd.models import Change, RunReport, RunStatus, Trigger, Verb
from syncd.store.rows import PastChange, PastRun, past_change, past_run
from syncd.store.sql import in_parts, marks

RUNS_KEPT = 500
CHANGES_KEPT_PER_RUN = 20_000
CHANGES_KEPT = 100_000  # of each job
RUN = 'run.id, run.job, run.started_at, run."trigger", run.status, run."commit", run.previous, run.seconds, run.bytes, run.error_kind, run.error'
CHANGE = "change.action, change.path, change.source, change.before, change.after"


def add(connection: Connection, report: RunReport) -> None:
    """The run and its changes are in the history. A failure that repeats the job's last row only moves that row's time."""
    if report.status in (RunStatus.UNCHANGED, RunStatus.SKIPPED) and not report.changes:
        return
    values: dict[str, Any] = {
        "job": report.job, "started_at": report.started_at.isoformat() if report.started_at else "", "trigger": report.trigger.value, "status": report.status.value,
        "commit": report.commit, "previous": report.previous, "seconds": report.seconds, "bytes": report.bytes_written,
        "error_kind": report.error.kind if report.error else None, "error": report.error.message if report.error else None,
    }  # fmt: skip
    newest = connection.execute('SELECT id, status, error, "commit" FROM run WHERE job = ? ORDER BY id DESC LIMIT 1', (report.job,)).fetchone()
    if newest is not None and newest[1:] == (values["status"], values["error"], values["commit"]) and _says_nothing_new(connection, newest[0], report):
        changed = ", ".join(f'"{name}" = :{name}' for name in values)
        connection.execute(f"UPDATE run SET {changed} WHERE id = :id", {**values, "id": newest[0]})
        return
    names, places = ", ".join(f'"{name}"' for name in values), ", ".join(f":{name}" for name in values)
    identity = connection.execute(f"INSERT INTO run ({names}) VALUES ({places})", values).lastrowid
    changes = ((identity, change.action.value, change.path, change.source, change.before, change.after) for change in report.changes[:CHANGES_KEPT_PER_RUN])
    connection.executemany("INSERT INTO change (run, action, path, source, before, after) VALUES (?, ?, ?, ?, ?, ?)", changes)
    kept = "SELECT id FROM run WHERE job = ? ORDER BY id DESC LIMIT ?"
    connection.execute(f"DELETE FROM run WHERE job = ? AND id NOT IN ({kept})", (report.job, report.job, RUNS_KEPT))
    if report.changes:
        _forget_old_changes(connection, report.job)


def _forget_old_changes(connection: Connection, job: str) -> None:
    """The oldest runs keep their row, and lose what they changed, when the job has more changes than are kept."""
    counts = "SELECT run.id, count(change.id) FROM run JOIN change ON change.run = run.id WHERE run.job = ? GROUP BY run.id ORDER BY run.id DESC"
    total = 0
    for identity, count in connection.execute(counts, (job,)).fetchall():
        total += count
        if total > CHANGES_KEPT and total > count:  # the newest run keeps its own
            connection.execute("DELETE FROM change WHERE run = ?", (identity,))


def _says_nothing_new(connection: Connection, run: int, report: RunReport) -> bool:
    """The same files left alone as the last time, and nothing else: an hour of that is one row, not twelve."""
    if any(change.action is not Verb.KEEP for change in report.changes):
        return False
    known = set(connection.execute("SELECT path, before FROM change WHERE run = ?", (run,)).fetchall())
    return known == {(change.path, change.before) for change in report.changes}


def changed_paths(connection: Connection, name: str) -> list[str]:
    """Every path in the history whose last name is `name`, ASCII letters in any case."""
    escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = "SELECT DISTINCT path FROM change WHERE path LIKE ? ESCAPE '\\'"
    found = connection.execute(query, (f"%/{escaped}",)).fetchall()
    return [path for (path,) in found if isinstance(path, str)]


def history(connection: Connection, job: str | None, paths: Sequence[str], limit: int) -> list[PastRun]:
    """Past runs, newest first; only those that changed one of `paths` when there are any, with only those changes then."""
    before = 'EXISTS (SELECT 1 FROM run AS older WHERE older.job = run.job AND older."commit" = run."commit" AND older.status = :changed AND older.id < run.id)'
    went_back = f'run.status = :changed AND run."trigger" != :by_hand AND run.previous != run."commit" AND {before}'
    names = {f"path{number}": path for number, path in enumerate(paths)}
    chosen_paths = f"path IN ({', '.join(f':{name}' for name in names)})"
    wanted = ["run.job = :job"] if job is not None else []
    wanted += [f"run.id IN (SELECT run FROM change WHERE {chosen_paths})"] if names else []
    query = f"SELECT {RUN}, {went_back} FROM run {'WHERE ' if wanted else ''}{' AND '.join(wanted)} ORDER BY run.id DESC LIMIT :limit"
    values = {"changed": RunStatus.CHANGED.value, "by_hand": Trigger.ROLLBACK.value, "job": job, "limit": limit, **names}
    found = connection.execute(query, values).fetchall()
    changes: dict[int, list[PastChange]] = {row[0]: [] for row in found}
    for part in in_parts(changes):
        chosen = f"SELECT run, {CHANGE} FROM change WHERE run IN ({marks(part)}) {f'AND path IN ({marks(paths)}) ' if paths else ''}ORDER BY id"
        for run, *row in connection.execute(chosen, [*part, *paths]).fetchall():
            if run in changes and (one := past_change(*row)) is not None:
                changes[run].append(one)
    return [read for row in found if (read := past_run(row[:-1], tuple(changes[row[0]]), bool(row[-1]))) is not None]


def changes_since(connection: Connection, job: str, since: datetime) -> tuple[Change, ...]:
    """Everything the job's runs that began at or after `since` did, the oldest first, as far as the history goes back."""
    chosen = f"SELECT {CHANGE} FROM change JOIN run ON run.id = change.run WHERE run.job = ? AND run.started_at >= ? ORDER BY change.id"
    read = (past_change(*row) for row in connection.execute(chosen, (job, since.isoformat())).fetchall())
    return tuple(Change(Verb(one.action), one.path, one.source, one.before, one.after) for one in read if one is not None and one.action in set(Verb))
