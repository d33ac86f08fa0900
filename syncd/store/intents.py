"""Statements over the rows of intents and their actions, and how these are stored in their
columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec.json import Decoder
from sqlalchemy import Connection, delete, select

from syncd.models import Action, ActionKind, LedgerRow, LocalFile
from syncd.ports import Intent
from syncd.store.checksum import checksum
from syncd.store.schema import INTENT, INTENT_ACTION
from syncd.store.serialization import ENCODE, TEXTS, WANTED_FILE
from syncd.store.sqlite import upsert

LEDGER_ROW = Decoder(LedgerRow)
LOCAL_FILE = Decoder(LocalFile)
WHOLE_INTENT = [
    INTENT.c[name]
    for name in (
        "job",
        "id",
        "commit_sha",
        "config_digest",
        "started_at",
        "needs_reload",
        "reload_was_pending",
        "directories",
        "checksum",
    )
]
INTENT_ACTIONS = [
    INTENT_ACTION.c[name]
    for name in (
        "number",
        "action",
        "path",
        "reason",
        "replaces_foreign",
        "wanted",
        "ledger",
        "expected",
    )
]


def read(connection: Connection, job: str) -> Intent | None:
    """Return the job's intent; None where there is none, or a damaged one."""
    row = connection.execute(select(*WHOLE_INTENT).where(INTENT.c.job == job)).first()
    if row is None:
        return None
    actions = select(*INTENT_ACTIONS).where(INTENT_ACTION.c.job == job)
    found = connection.execute(actions.order_by(INTENT_ACTION.c.number)).all()
    return intent_from_rows(row, found)


def exists(connection: Connection, job: str) -> bool:
    """Return whether an intent of the job is stored, intact or damaged."""
    found = connection.execute(select(INTENT.c.job).where(INTENT.c.job == job))
    return found.first() is not None


def write(connection: Connection, intent: Intent) -> None:
    """Store the intent in the place of the job's former one."""
    remove(connection, intent.job)
    row, actions = intent_rows(intent)
    upsert(connection, INTENT, [row])
    upsert(connection, INTENT_ACTION, actions)


def remove(connection: Connection, job: str) -> None:
    """Delete the job's intent."""
    connection.execute(delete(INTENT_ACTION).where(INTENT_ACTION.c.job == job))
    connection.execute(delete(INTENT).where(INTENT.c.job == job))


def intent_rows(intent: Intent) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of an intent and those of its actions, by column."""
    values = (
        intent.job,
        intent.id,
        intent.commit,
        intent.digest,
        intent.started_at.isoformat(),
        int(intent.reload_after),
        int(intent.reload_was_pending),
        ENCODE(intent.folders).decode(),
    )
    actions = [_action_values(number, action) for number, action in enumerate(intent.actions)]
    row = dict(
        zip(
            (column.name for column in WHOLE_INTENT),
            (*values, checksum(*values, actions)),
            strict=True,
        )
    )
    names = [column.name for column in INTENT_ACTIONS]
    return row, [{"job": intent.job, **dict(zip(names, one, strict=True))} for one in actions]


def intent_from_rows(row: Sequence[Any], actions: Sequence[Sequence[Any]]) -> Intent | None:
    """Return the intent of rows of WHOLE_INTENT and INTENT_ACTIONS; None for a damaged one."""
    *values, stored_checksum = row
    try:
        if stored_checksum != checksum(*values, [tuple(one) for one in actions]):
            return None
        job, identity, commit, digest, started_at, needs_reload, was_pending, directories = values
        return Intent(
            identity,
            job,
            commit,
            digest,
            tuple(_action(one) for one in actions),
            TEXTS.decode(directories),
            bool(needs_reload),
            datetime.fromisoformat(started_at),
            bool(was_pending),
        )
    except (ValueError, TypeError):
        return None


def _action_values(number: int, action: Action) -> tuple[Any, ...]:
    return (
        number,
        action.kind.value,
        action.path,
        action.reason,
        int(action.replaces_foreign),
        _json(action.wanted),
        _json(action.recorded),
        None if action.expected is None else _json(_local_values(action.expected)),
    )


def _action(values: Sequence[Any]) -> Action:
    _, verb, path, reason, replaces_foreign, wanted, row, expected = values
    return Action(
        ActionKind(verb),
        path,
        None if wanted is None else WANTED_FILE.decode(wanted),
        None if row is None else LEDGER_ROW.decode(row),
        None if expected is None else LOCAL_FILE.decode(expected),
        reason,
        replaces_foreign=bool(replaces_foreign),
    )


def _json(value: Any) -> str | None:
    return None if value is None else ENCODE(value).decode()


def _local_values(local: LocalFile) -> tuple[Any, ...]:
    """Return what was on disk, without what only a person reads."""
    return local.kind, local.blob, local.mode, local.uid, local.gid, local.stat
