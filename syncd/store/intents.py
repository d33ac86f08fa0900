"""Statements over the rows of intents, for the store's transactions."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from syncd.ports import Intent
from syncd.store import serialization
from syncd.store.schema import INTENT, INTENT_ACTION
from syncd.store.sqlite import upsert


def read(connection: Connection, job: str) -> Intent | None:
    """The job's intent; None where there is none, or a damaged one."""
    row = connection.execute(select(*serialization.WHOLE_INTENT).where(INTENT.c.job == job)).first()
    if row is None:
        return None
    actions = select(*serialization.INTENT_ACTIONS).where(INTENT_ACTION.c.job == job)
    found = connection.execute(actions.order_by(INTENT_ACTION.c.number)).all()
    return serialization.intent_from_rows(row, found)


def exists(connection: Connection, job: str) -> bool:
    """Whether an intent of the job is stored, whole or damaged."""
    found = connection.execute(select(INTENT.c.job).where(INTENT.c.job == job))
    return found.first() is not None


def write(connection: Connection, intent: Intent) -> None:
    """Store the intent in the place of the job's former one."""
    remove(connection, intent.job)
    row, actions = serialization.intent_rows(intent)
    upsert(connection, INTENT, [row])
    upsert(connection, INTENT_ACTION, actions)


def remove(connection: Connection, job: str) -> None:
    connection.execute(delete(INTENT_ACTION).where(INTENT_ACTION.c.job == job))
    connection.execute(delete(INTENT).where(INTENT.c.job == job))
