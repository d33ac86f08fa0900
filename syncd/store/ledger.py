"""Statements over the ledger's rows, for the store's transactions: who owns a file, and how that changes."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

from msgspec.structs import replace

from syncd.engine.ports import OwnedRow, Result
from syncd.models import Recorded
from syncd.store import rows
from syncd.store.schema import is_whole, seal, whole_rows
from syncd.store.sql import in_parts, marks, put


def owners(connection: Connection, reals: Sequence[str]) -> dict[str, tuple[OwnedRow, ...]]:
    """Real path -> the rows of that file, whatever path they were written as."""
    found: dict[str, tuple[OwnedRow, ...]] = {}
    for part in in_parts(reals):
        chosen = f"SELECT path, job, row, seal FROM file WHERE real_path IN ({marks(part)})"
        for path, job, row, mark in connection.execute(chosen, part).fetchall():
            for _, recorded in rows.ledger(whole_rows(job, [(path, row, mark)])):
                real = recorded.real or path
                found[real] = (*found.get(real, ()), OwnedRow(path, job, recorded))
    return found


def folder_owners(connection: Connection, paths: Sequence[str]) -> dict[str, str]:
    """Folder -> the job that syncd made it for."""
    found: dict[str, str] = {}
    for part in in_parts(paths):
        chosen = f"SELECT path, job, seal FROM folder WHERE path IN ({marks(part)})"
        rows_found = connection.execute(chosen, part).fetchall()
        found |= {path: job for path, job, mark in rows_found if is_whole(mark, job, path)}
    return found


def file_row(job: str, path: str, recorded: Recorded) -> dict[str, str | None]:
    row = rows.recorded_to_text(recorded)
    return {"path": path, "job": job, "row": row, "seal": seal(job, path, row), "real_path": recorded.real or path}


def distrust(connection: Connection, job: str, paths: Sequence[str]) -> int:
    """What lstat said of these files proves nothing any more: the next run reads them. How many rows."""
    changed = []
    for part in in_parts(paths):
        chosen = f"SELECT path, row, seal FROM file WHERE job = ? AND path IN ({marks(part)})"
        found = connection.execute(chosen, (job, *part)).fetchall()
        for path, row in rows.ledger(whole_rows(job, found)):
            if row.stat is not None:
                changed.append(file_row(job, path, replace(row, stat=row.stat.smudged)))
    put(connection, "file", ("path",), changed)
    return len(changed)


def hand_over(connection: Connection, job: str, result: Result) -> None:
    """Rows and folders of this job belong to the jobs that the result names."""
    for path, other in result.handed_over.items():
        query = "SELECT row, seal FROM file WHERE path = ? AND job = ?"
        found = connection.execute(query, (path, job)).fetchall()
        for row, _ in (one for one in found if is_whole(one[1], job, path, one[0])):
            values = (other, seal(other, path, row), path)
            connection.execute("UPDATE file SET job = ?, seal = ? WHERE path = ?", values)
    for folder, owner in result.folders_given.items():
        if owner is None:
            connection.execute("DELETE FROM folder WHERE path = ?", (folder,))
        else:
            change = "UPDATE folder SET job = ?, seal = ? WHERE path = ? AND job = ?"
            connection.execute(change, (owner, seal(owner, folder), folder, job))
