"""Statements over the rows of job states, and how a state is stored in its columns.

A damaged row reads as a state in which nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, func, select, union

from syncd.apply_rules import WaitingCommit
from syncd.ports import (
    AcceptedCommit,
    CheckResult,
    Condition,
    JobState,
    LastError,
    Pause,
    PendingHealth,
    PendingReload,
    Rejection,
    UndoInfo,
)
from syncd.store.checksum import checksum
from syncd.store.schema import FILE, JOB
from syncd.store.serialization import ENCODE, TEXTS, aware
from syncd.store.sqlite import text_of, upsert


class Part(NamedTuple):
    """How a nested value of a state is stored.

    `columns` maps each of the value's fields to its column. The value is there where each of the
    `needed` columns is set.
    """

    type: type
    columns: Mapping[str, str]
    needed: tuple[str, ...]


PARTS = {
    "rejection": Part(
        Rejection,
        {
            "commit": "rejected_commit",
            "config_digest": "rejected_config_digest",
            "reason": "rejected_reason",
            "by_policy": "rejected_by_policy",
        },
        ("rejected_commit", "rejected_config_digest"),
    ),
    "accepted": Part(
        AcceptedCommit,
        {"commit": "accepted_commit", "history": "accepted_history"},
        ("accepted_commit", "accepted_history"),
    ),
    "pending_reload": Part(
        PendingReload,
        {
            "commit": "reload_commit",
            "reloaded_commit": "reloaded_commit",
            "since": "reload_since",
            "attempts": "reload_attempts",
            "tried_at": "reload_tried_at",
            "deferred_until": "reload_deferred_until",
        },
        ("reload_pending",),
    ),
    "pending_health": Part(
        PendingHealth,
        {
            "commit": "health_commit",
            "config_digest": "health_config_digest",
            "since": "health_since",
            "checked_at": "health_checked_at",
            "seconds": "health_seconds",
            "passed": "health_passed",
            "failed": "health_failed",
            "last": "health_last",
            "reason": "health_reason",
        },
        ("health_commit", "health_config_digest"),
    ),
    "undo": Part(
        UndoInfo,
        {"blob": "undo_blob", "content_blobs": "undo_blobs", "begun": "undo_begun"},
        ("undo_blob",),
    ),
    "pause": Part(Pause, {"reason": "paused_reason", "until": "paused_until"}, ("paused_reason",)),
    "last_error": Part(
        LastError,
        {
            "kind": "last_error_kind",
            "message": "last_error",
            "id": "last_error_id",
            "hint": "last_error_hint",
        },
        ("last_error_kind",),
    ),
    "condition": Part(
        Condition, {"name": "state", "since": "state_since"}, ("state", "state_since")
    ),
    "waiting": Part(
        WaitingCommit,
        {
            "commit": "waiting_commit",
            "until": "waiting_until",
            "reason": "waiting_reason",
            "config_digest": "waiting_config_digest",
        },
        ("waiting_commit",),
    ),
}
# what the columns of a value that is not there have, where that is not NULL
EMPTY = {"rejected_by_policy": False, "reload_attempts": 0, "undo_blobs": (), "undo_begun": False}
COLUMN_OF = {"drift_count": "drifted_files", "applying": "applying_commit"}
FLAGS = {"rejected_by_policy", "reload_pending", "undo_begun", "held", "consistent"}
TIMES = {"reload_tried_at", "reload_since", "paused_until", "last_change_at"}
TIMES |= {"health_since", "health_checked_at", "waiting_until", "reload_deferred_until"}
TIMES |= {"last_run_at", "last_success_at", "state_since"}
LISTS = {"undo_blobs", "directories_to_fix"}
# columns since 0007: the checksum is over those that are set, so that older rows keep theirs
LATER = frozenset(
    (*PARTS["pending_health"].columns.values(), *PARTS["waiting"].columns.values())
).union({"applying_commit", "reload_deferred_until"})
RUN_TIMES = ("last_run_at", "last_success_at")
UNCHECKED = (*RUN_TIMES, "state", "state_since", "last_error_id", "last_error_hint")
STATE = [column for column in JOB.columns if column.name not in ("name", "checksum", *UNCHECKED)]
STATE_COLUMNS = [str(column.name) for column in STATE]
PLAIN_COLUMNS = {
    field: COLUMN_OF.get(field, field) for field in JobState.__struct_fields__ if field not in PARTS
}
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


def mark_all_checked(connection: Connection, jobs: Mapping[str, tuple[JobState, datetime]]) -> None:
    """Set the times of the last run and success of each job whose state is still the given one.

    Nothing else of the state changes.
    """
    for name, state in read_states(connection).items():
        if name in jobs:
            expected, at = jobs[name]
            if _without_times(state) == _without_times(expected):
                times = {column: at.isoformat() for column in RUN_TIMES}
                connection.execute(JOB.update().where(JOB.c.name == name).values(times))


def _without_times(state: JobState) -> JobState:
    return replace(state, last_run_at=None, last_success_at=None)


def state_row(job: str, state: JobState) -> dict[str, Any]:
    """Return the row of a job's state, by column."""
    flat = _flat(state)
    values = [_column_value(column, flat[column]) for column in STATE_COLUMNS]
    row = dict(zip(STATE_COLUMNS, values, strict=True))
    unchecked = {name: _column_value(name, flat[name]) for name in UNCHECKED}
    return {"name": job, **row, "checksum": _state_checksum(job, values), **unchecked}


def state_from_row(row: Sequence[Any]) -> JobState:
    """Return the state of a row of WHOLE_STATE.

    For a damaged row nothing is known, and the next run reads everything.
    """
    job, *values = row[: 1 + len(STATE_COLUMNS)]
    stored_checksum, *unchecked = row[1 + len(STATE_COLUMNS) :]
    try:
        if stored_checksum == _state_checksum(job, values):
            stored = zip((*STATE_COLUMNS, *UNCHECKED), (*values, *unchecked), strict=True)
            return JobState(**_fields({name: _field_value(name, value) for name, value in stored}))
    except (ValueError, TypeError):
        pass
    return JobState(consistent=False)


def _state_checksum(job: str, values: Sequence[Any]) -> str:
    """Return the checksum of a row's values, in the order of STATE_COLUMNS."""
    named = list(zip(STATE_COLUMNS, values, strict=True))
    first = [value for name, value in named if name not in LATER]
    later = [pair for pair in named if pair[0] in LATER and pair[1] is not None]
    return checksum(job, *first, *later)


def _flat(state: JobState) -> dict[str, Any]:
    """Return the values of a state by column."""
    flat = {column: getattr(state, field) for field, column in PLAIN_COLUMNS.items()}
    flat["reload_pending"] = state.pending_reload is not None
    for field, part in PARTS.items():
        value = getattr(state, field)
        for name, column in part.columns.items():
            flat[column] = EMPTY.get(column) if value is None else getattr(value, name)
    return flat


def _fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a state from its values by column."""
    fields = {field: flat[column] for field, column in PLAIN_COLUMNS.items()}
    for field, part in PARTS.items():
        if all(flat[column] not in (None, False) for column in part.needed):
            stored = {name: flat[column] for name, column in part.columns.items()}
            known = {name: value for name, value in stored.items() if value is not None}
            fields[field] = part.type(**known)
    return fields


def _column_value(column: str, value: Any) -> Any:
    if column in FLAGS:
        return int(value)
    if column in LISTS:
        return ENCODE(value).decode()
    if isinstance(value, CheckResult):
        return value.value
    return _time_text(value) if column in TIMES else value


def _field_value(column: str, value: Any) -> Any:
    if column in FLAGS:
        return bool(value)
    if column in LISTS:
        return TEXTS.decode(value)
    if column == "health_last" and value is not None:
        return CheckResult(value)
    if column in UNCHECKED:  # may be damaged: an unreadable value is as good as none
        return aware(value) if column in TIMES else value if isinstance(value, str) else None
    return datetime.fromisoformat(value) if column in TIMES and value is not None else value


def _time_text(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
