"""Statements over the ledger's rows and directories: what a job has, who owns a file, and how that
changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, select, union

from syncd.models import LedgerRow
from syncd.ports import OwnedRow, RunRecord
from syncd.store import serialization
from syncd.store.checksum import checksum, matches
from syncd.store.schema import APPLIED_SET, DIRECTORY, FILE
from syncd.store.sqlite import fetch_all, in_parts, insert, text_of, upsert

WHOLE = [*serialization.LEDGER, FILE.c.checksum]
OF_JOB = text_of(select(*WHOLE).where(FILE.c.job == bindparam("job")))
_NAMES = ["job", "repo", "commit_sha", *(column.name for column in WHOLE)]
_NEW = insert(FILE).values(dict.fromkeys(_NAMES))
_CHANGED = {name: _NEW.excluded[name] for name in _NAMES if name != "path"}
PUT = text_of(_NEW.on_conflict_do_update(index_elements=["path"], set_=_CHANGED))
REMOVE = text_of(delete(FILE).where(FILE.c.path == bindparam("of"), FILE.c.job == bindparam("for")))
# The position in _NAMES of each value of the statement.
POSITIONS = [_NAMES.index(column.name) for column in FILE.columns]


def of_job(connection: Connection, job: str) -> dict[str, LedgerRow]:
    """Return the job's rows by path, without damaged ones."""
    return serialization.ledger_rows(job, fetch_all(connection, OF_JOB, (job,)))


def put(
    connection: Connection,
    job: str,
    origin: tuple[str, str | None],
    rows: Mapping[str, LedgerRow],
) -> None:
    """Store these rows of the job, each in the place of any row of the same path.

    `origin` is the repository and the commit that they come from.
    """
    values = []
    for path, row in rows.items():
        stored = serialization.ledger_values(path, row)
        named = (job, *origin, *stored, checksum(job, *stored))
        values.append(tuple(named[position] for position in POSITIONS))
    if values:
        connection.exec_driver_sql(PUT, values)


def remove(connection: Connection, jobs_by_path: Iterable[tuple[str, str]]) -> None:
    """Delete the row of each path, if it belongs to that job."""
    values = list(jobs_by_path)
    if values:
        connection.exec_driver_sql(REMOVE, values)


def owners(connection: Connection, reals: Sequence[str]) -> dict[str, tuple[OwnedRow, ...]]:
    """Return the rows of each real path, whatever path they were written as."""
    found: dict[str, tuple[OwnedRow, ...]] = {}
    for part in in_parts(reals):
        chosen = select(FILE.c.job, *WHOLE).where(FILE.c.real_path.in_(part))
        for job, *values in connection.execute(chosen).all():
            for path, recorded in serialization.ledger_rows(job, [values]).items():
                real = recorded.real or path
                found[real] = (*found.get(real, ()), OwnedRow(path, job, recorded))
    return found


def directories(connection: Connection, job: str) -> frozenset[str]:
    """Return the directories that syncd made for the job, without damaged rows."""
    query = select(*DIRECTORY.c["path", "checksum"]).where(DIRECTORY.c.job == job)
    found = connection.execute(query).all()
    return frozenset(path for path, stored_checksum in found if matches(stored_checksum, job, path))


def remove_directories(connection: Connection, job: str, paths: Iterable[str]) -> None:
    """Delete the rows of these directories, if they belong to the job."""
    for path in paths:
        is_it = (DIRECTORY.c.path == path, DIRECTORY.c.job == job)
        connection.execute(delete(DIRECTORY).where(*is_it))


def directory_owners(connection: Connection, paths: Sequence[str]) -> dict[str, str]:
    """Return for each directory the job that syncd made it for."""
    found: dict[str, str] = {}
    for part in in_parts(paths):
        chosen = select(*DIRECTORY.c["path", "job", "checksum"]).where(DIRECTORY.c.path.in_(part))
        found |= {
            path: job
            for path, job, stored_checksum in connection.execute(chosen)
            if matches(stored_checksum, job, path)
        }
    return found


def put_directories(connection: Connection, job: str, paths: Iterable[str]) -> None:
    """Store that syncd made these directories for the job."""
    upsert(
        connection,
        DIRECTORY,
        ({"path": path, "job": job, "checksum": checksum(job, path)} for path in paths),
    )


def require_rehash(connection: Connection, job: str, paths: Sequence[str]) -> int:
    """Make the next run read these files, whatever lstat says; return the number of rows."""
    wanted = set(paths)
    chosen = {
        path: row
        for path, row in of_job(connection, job).items()
        if path in wanted and row.stat is not None
    }
    for path, row in chosen.items():
        if row.stat is not None:
            _update(connection, job, path, replace(row, stat=row.stat.smudged))
    return len(chosen)


def hand_over(connection: Connection, job: str, record: RunRecord) -> None:
    """Give rows and directories of this job to the jobs that the record names."""
    for path, other in record.handed_over.items():
        chosen = select(*WHOLE).where(FILE.c.path == path, FILE.c.job == job)
        for row in serialization.ledger_rows(job, connection.execute(chosen).all()).values():
            _update(connection, other, path, row)
    for directory, owner in record.directories_reassigned.items():
        if owner is None:
            connection.execute(delete(DIRECTORY).where(DIRECTORY.c.path == directory))
        elif directory_owners(connection, [directory]).get(directory) == job:
            put_directories(connection, owner, [directory])


def rename(connection: Connection, old: str, new: str) -> None:
    """Give the job's rows and directories to another name.

    A damaged row stays, because its content is unknown.
    """
    for path, row in of_job(connection, old).items():
        _update(connection, new, path, row)
    put_directories(connection, new, directories(connection, old))


def _update(connection: Connection, job: str, path: str, row: LedgerRow) -> None:
    """Update the row of the path, and give it to this job; where it came from stays."""
    stored = serialization.ledger_values(path, row)
    values: dict[str, Any] = dict(
        zip((column.name for column in serialization.LEDGER), stored, strict=True)
    )
    values |= {"job": job, "checksum": checksum(job, *stored)}
    connection.execute(FILE.update().where(FILE.c.path == path).values(values))


def jobs_with_files(connection: Connection) -> list[str]:
    """Return each job that the ledger or a set names, also where its own row cannot be read."""
    query = union(select(FILE.c.job), select(APPLIED_SET.c.job))
    return [job for job in connection.execute(query).scalars() if isinstance(job, str)]
