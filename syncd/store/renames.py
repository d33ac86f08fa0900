"""Stores everything that is known of a job under another name, or deletes it, in the caller's
transaction.

A damaged row stays under the old name, because its content is unknown.
"""

from __future__ import annotations

from msgspec.structs import replace
from sqlalchemy import Connection, delete, select, update

from syncd.store import intents, ledger
from syncd.store.checksum import checksum, matches
from syncd.store.job_states import read_state, remove_state, write_state
from syncd.store.schema import ACTION, APPLIED_SET, DIRECTORY, FILE, NOTIFICATION, RUN
from syncd.store.sqlite import upsert


def rename(connection: Connection, old: str, new: str) -> None:
    """Store every intact row of the job under its new name."""
    ledger.rename(connection, old, new)
    state = read_state(connection, old)
    if state is not None:
        write_state(connection, new, state)
        remove_state(connection, old)
    intent = intents.read(connection, old)
    if intent is not None:
        intents.write(connection, replace(intent, job=new))
        intents.remove(connection, old)
    _rename_sets(connection, old, new)
    for table in (RUN, ACTION):
        connection.execute(update(table).where(table.c.job == old).values(job=new))
    _rename_notifications(connection, old, new)


def forget(connection: Connection, job: str) -> int:
    """Delete everything but the history of the job; return the number of its ledger rows."""
    count = connection.execute(delete(FILE).where(FILE.c.job == job)).rowcount
    remove_state(connection, job)
    intents.remove(connection, job)
    for table in (DIRECTORY, APPLIED_SET):
        connection.execute(delete(table).where(table.c.job == job))
    return count


def _rename_sets(connection: Connection, old: str, new: str) -> None:
    chosen = select(*APPLIED_SET.c["id", "commit_sha", "files", "checksum"]).where(
        APPLIED_SET.c.job == old
    )
    for number, commit, files, stored_checksum in connection.execute(chosen).all():
        if matches(stored_checksum, old, commit, body=files):
            values = {"job": new, "checksum": checksum(new, commit, body=files)}
            connection.execute(update(APPLIED_SET).where(APPLIED_SET.c.id == number).values(values))


def _rename_notifications(connection: Connection, old: str, new: str) -> None:
    column = NOTIFICATION.c.job  # with its slot
    mine = (column == old) | column.startswith(f"{old}@", autoescape=True)
    rows = [
        dict(row) | {"job": new + row["job"].removeprefix(old)}
        for row in connection.execute(select(NOTIFICATION).where(mine)).mappings()
    ]
    connection.execute(delete(NOTIFICATION).where(mine))
    upsert(connection, NOTIFICATION, rows)
