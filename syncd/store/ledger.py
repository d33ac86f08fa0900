"""Statements over the ledger's rows, for the store's transactions: what a job has, who owns a file,
and how that changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, select

from syncd.models import LedgerRow
from syncd.ports import OwnedRow, RunRecord
from syncd.store import serialization
from syncd.store.checksum import checksum, matches
from syncd.store.schema import DIRECTORY, FILE
from syncd.store.sqlite import in_parts, insert, text_of, upsert

WHOLE = [*serialization.LEDGER, FILE.c.checksum]
OF_JOB = text_of(select(*WHOLE).where(FILE.c.job == bindparam("job")))
_NAMES = ["job", "repo", "commit_sha", *(column.name for column in WHOLE)]
_NEW = insert(FILE).values(dict.fromkeys(_NAMES))
_CHANGED = {name: _NEW.excluded[name] for name in _NAMES if name != "path"}
PUT = text_of(_NEW.on_conflict_do_update(index_elements=["path"], set_=_CHANGED))
REMOVE = text_of(delete(FILE).where(FILE.c.path == bindparam("of"), FILE.c.job == bindparam("for")))
PLACES = [
    _NAMES.index(column.name) for column in FILE.columns
]  # of the statement's values, in the order of _NAMES


def of_job(connection: Connection, job: str) -> dict[str, LedgerRow]:
    """The job's rows by path, without damaged ones."""
    return serialization.ledger(job, connection.exec_driver_sql(OF_JOB, (job,)).all())


def put(
    connection: Connection,
    job: str,
    repo: str,
    commit: str | None,
    changed: Mapping[str, LedgerRow],
) -> None:
    """Store these rows of the job; each takes the place of the one of the same path, whoever has
    it.
    """
    values = []
    for path, row in changed.items():
        stored = serialization.ledger_values(path, row)
        named = (job, repo, commit, *stored, checksum(job, *stored))
        values.append(tuple(named[place] for place in PLACES))
    if values:
        connection.exec_driver_sql(PUT, values)


def remove(connection: Connection, jobs_by_path: Iterable[tuple[str, str]]) -> None:
    """Remove the row of each path, if it is that job's."""
    values = list(jobs_by_path)
    if values:
        connection.exec_driver_sql(REMOVE, values)


def owners(connection: Connection, reals: Sequence[str]) -> dict[str, tuple[OwnedRow, ...]]:
    """Real path -> the rows of that file, whatever path they were written as."""
    found: dict[str, tuple[OwnedRow, ...]] = {}
    for part in in_parts(reals):
        chosen = select(FILE.c.job, *WHOLE).where(FILE.c.real_path.in_(part))
        for job, *values in connection.execute(chosen).all():
            for path, recorded in serialization.ledger(job, [values]).items():
                real = recorded.real or path
                found[real] = (*found.get(real, ()), OwnedRow(path, job, recorded))
    return found


def directory_owners(connection: Connection, paths: Sequence[str]) -> dict[str, str]:
    """Directory -> the job that syncd made it for."""
    found: dict[str, str] = {}
    for part in in_parts(paths):
        chosen = select(*DIRECTORY.c["path", "job", "checksum"]).where(DIRECTORY.c.path.in_(part))
        found |= {
            path: job for path, job, mark in connection.execute(chosen) if matches(mark, job, path)
        }
    return found


def put_directories(connection: Connection, job: str, paths: Iterable[str]) -> None:
    """The job has these directories, which syncd made."""
    upsert(
        connection,
        DIRECTORY,
        ({"path": path, "job": job, "checksum": checksum(job, path)} for path in paths),
    )


def require_rehash(connection: Connection, job: str, paths: Sequence[str]) -> int:
    """What lstat said of these files proves nothing any more: the next run reads them.

    How many rows.
    """
    wanted = set(paths)
    chosen = {
        path: row
        for path, row in of_job(connection, job).items()
        if path in wanted and row.stat is not None
    }
    for path, row in chosen.items():
        if row.stat is not None:
            _change(connection, job, path, replace(row, stat=row.stat.smudged))
    return len(chosen)


def hand_over(connection: Connection, job: str, result: RunRecord) -> None:
    """Rows and directories of this job belong to the jobs that the result names."""
    for path, other in result.handed_over.items():
        chosen = select(*WHOLE).where(FILE.c.path == path, FILE.c.job == job)
        for row in serialization.ledger(job, connection.execute(chosen).all()).values():
            _change(connection, other, path, row)
    for directory, owner in result.directories_reassigned.items():
        if owner is None:
            connection.execute(delete(DIRECTORY).where(DIRECTORY.c.path == directory))
        elif directory_owners(connection, [directory]).get(directory) == job:
            put_directories(connection, owner, [directory])


def rename(connection: Connection, old: str, new: str) -> None:
    """The job's rows and directories are another name's.

    A damaged row stays: what it says is not known.
    """
    for path, row in of_job(connection, old).items():
        _change(connection, new, path, row)
    chosen = select(*DIRECTORY.c["path", "checksum"]).where(DIRECTORY.c.job == old)
    whole = [path for path, mark in connection.execute(chosen).all() if matches(mark, old, path)]
    put_directories(connection, new, whole)


def _change(connection: Connection, job: str, path: str, row: LedgerRow) -> None:
    """The row of the path says this, for this job; where it came from stays as it is."""
    stored = serialization.ledger_values(path, row)
    values: dict[str, Any] = dict(
        zip((column.name for column in serialization.LEDGER), stored, strict=True)
    )
    values |= {"job": job, "checksum": checksum(job, *stored)}
    connection.execute(FILE.update().where(FILE.c.path == path).values(values))
