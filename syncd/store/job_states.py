"""Statements over the rows of job states, and how a state is stored in its columns.

A damaged row reads as a state in which nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, union

from syncd.ports import JobState
from syncd.store.checksum import checksum
from syncd.store.schema import FILE, JOB
from syncd.store.serialization import ENCODE, TEXTS, aware
from syncd.store.sqlite import text_of, upsert

COLUMN_OF = {"drift_count": "drifted_files"}
FLAGS = {"rejected_by_policy", "reload_pending", "undo_begun", "held", "consistent"}
TIMES = {"reload_tried_at", "reload_since", "paused_until", "last_change_at"}
LISTS = {"undo_blobs", "directories_to_fix"}
UNCHECKED = ("last_run_at", "last_success_at")
FIELD_OF = {column: field for field, column in COLUMN_OF.items()}
STATE = [column for column in JOB.columns if column.name not in ("name", "checksum", *UNCHECKED)]
STATE_FIELDS = [FIELD_OF.get(column.name, column.name) for column in STATE]
WHOLE_STATE = [JOB.c.name, *STATE, JOB.c.checksum, *(JOB.c[name] for name in UNCHECKED)]
ALL = text_of(select(*WHOLE_STATE))
ONE = text_of(select(*WHOLE_STATE).where(JOB.c.name == bindparam("job")))


def read_state(connection: Connection, job: str) -> JobState | None:
    """Return the job's state; None where nothing is stored of the job."""
    row = connection.exec_driver_sql(ONE, (job,)).first()
    return None if row is None else state_from_row(row)


def read_states(connection: Connection) -> dict[str, JobState]:
    """Return the state of each job."""
    found = connection.exec_driver_sql(ALL).all()
    return {row[0]: state_from_row(row) for row in found if isinstance(row[0], str)}


def write_state(connection: Connection, job: str, state: JobState) -> None:
    """Store the state in the place of the job's former one."""
    upsert(connection, JOB, [state_row(job, state)])


def remove_state(connection: Connection, job: str) -> None:
    """Delete the job's state."""
    connection.execute(delete(JOB).where(JOB.c.name == job))


def job_names(connection: Connection) -> list[str]:
    """Return the name of each job with a state or a ledger row."""
    query = union(select(JOB.c.name), select(FILE.c.job))
    found = connection.execute(query).scalars()
    return sorted(name for name in found if isinstance(name, str))


def is_stored(connection: Connection, job: str) -> bool:
    """Return whether there is a state of the job."""
    query = select(JOB.c.name).where(JOB.c.name == job)
    return connection.execute(query).first() is not None


def file_counts(connection: Connection) -> dict[str, int]:
    """Return how many ledger rows each job has."""
    counted = connection.execute(select(FILE.c.job, func.count()).group_by(FILE.c.job))
    return {job: count for job, count in counted if isinstance(job, str)}


def mark_checked(connection: Connection, job: str, at: datetime) -> None:
    """Set the time of the last run and of the last success; nothing else of the state changes."""
    times = {name: at.isoformat() for name in UNCHECKED}
    connection.execute(JOB.update().where(JOB.c.name == job).values(times))


def state_row(job: str, state: JobState) -> dict[str, Any]:
    """Return the row of a job's state, by column."""
    values = [_state_value(name, getattr(state, name)) for name in STATE_FIELDS]
    row = dict(zip((column.name for column in STATE), values, strict=True))
    times = {name: _time_text(getattr(state, name)) for name in UNCHECKED}
    return {"name": job, **row, "checksum": checksum(job, *values), **times}


def state_from_row(row: Sequence[Any]) -> JobState:
    """Return the state of a row of WHOLE_STATE.

    For a damaged row nothing is known, and the next run reads everything.
    """
    job, *values, stored_checksum, run_at, success_at = row
    try:
        if stored_checksum == checksum(job, *values):
            found = {
                name: _state_field(name, value)
                for name, value in zip(STATE_FIELDS, values, strict=True)
            }
            return JobState(**found, last_run_at=aware(run_at), last_success_at=aware(success_at))
    except (ValueError, TypeError):
        pass
    return JobState(consistent=False)


def _state_value(name: str, value: Any) -> Any:
    if name in FLAGS:
        return int(value)
    if name in LISTS:
        return ENCODE(value).decode()
    return _time_text(value) if name in TIMES else value


def _state_field(name: str, value: Any) -> Any:
    if name in FLAGS:
        return bool(value)
    if name in LISTS:
        return TEXTS.decode(value)
    return datetime.fromisoformat(value) if name in TIMES and value is not None else value


def _time_text(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
