"""Statements over the rows of job states, for the store's transactions."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select

from syncd.ports import JobState
from syncd.store import serialization
from syncd.store.schema import JOB
from syncd.store.sqlite import text_of, upsert

ALL = text_of(select(*serialization.WHOLE_STATE))
ONE = text_of(select(*serialization.WHOLE_STATE).where(JOB.c.name == bindparam("job")))


def read_state(connection: Connection, job: str) -> JobState | None:
    """The job's state; None where nothing is stored of the job."""
    row = connection.exec_driver_sql(ONE, (job,)).first()
    return None if row is None else serialization.state_from_row(row)


def read_states(connection: Connection) -> dict[str, JobState]:
    """The state of every job."""
    found = connection.exec_driver_sql(ALL).all()
    return {row[0]: serialization.state_from_row(row) for row in found if isinstance(row[0], str)}


def write_state(connection: Connection, job: str, state: JobState) -> None:
    upsert(connection, JOB, [serialization.state_row(job, state)])


def remove_state(connection: Connection, job: str) -> None:
    connection.execute(delete(JOB).where(JOB.c.name == job))
