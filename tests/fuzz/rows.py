"""Fuzzing of the store's rows and of the notes beside it:
python -m tests.fuzz.rows -max_total_time=60

The input stands where a row's own values stood, with the right seal (a disk that damages both is
not the worst that can happen) and with a wrong one. Whatever it is: it reads back as a value of its
kind or counts as damage, and nobody falls over it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import json as msgjson
from sqlalchemy import Connection, Table, delete
from sqlalchemy.exc import IntegrityError

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.store", "syncd.config.cache"):
    from syncd.config import cache
    from syncd.store import intents, job_states, serialization
    from syncd.store.store import SqliteStore

from syncd.models import (
    Action,
    ActionKind,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Stat,
    TreeEntry,
    WantedFile,
)
from syncd.ports import Intent, JobState
from syncd.store.checksum import checksum
from syncd.store.database import Database
from syncd.store.schema import (
    APPLIED_SET,
    DIRECTORY,
    FILE,
    HEAD,
    INTENT,
    INTENT_ACTION,
    LISTING,
    METADATA,
    RATE_LIMIT,
    RUN,
)
from syncd.store.schema import JOB as JOB_TABLE
from syncd.store.sqlite import upsert

STORE = SqliteStore(Database(None))
JOB = "nginx"
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ENTRY = WantedFile("ab" * 20, 0o644, Kind.FILE, 0, 0, "nginx/x", 7, "/srv", 0o755)
ROW = LedgerRow(ENTRY, Stat(1, 2, 3, 4, 5), Ownership.OWNED, None)
LOCAL = LocalFile(Kind.FILE, "cd" * 20, 0o644, 0, 0, Stat(1, 2, 3, 4, 5))
ACTION = Action(ActionKind.WRITE, "/srv/x", ENTRY, ROW, LOCAL, "new")
INTENT_VALUE = Intent("i", JOB, "a" * 40, "d", (ACTION,), ("/srv",), True, AT)


def one(data: bytes) -> None:
    text, whole = data[1:].decode("utf-8", "replace"), data[:1] != b"d"
    body, commit, etag = zlib.compress(data[1:], 1), text[:40], text[40:80] or None
    odd = _odd_value(text)

    def mark(*values: Any, body: bytes = b"") -> str:
        return checksum(*values, body=body) if whole else "0" * 16

    def plant(connection: Connection) -> None:
        for table in reversed(METADATA.sorted_tables):
            if table.name != "alembic_version":
                connection.execute(delete(table))
        number = len(data) % len(serialization.LEDGER)
        values = list(serialization.ledger_values("/srv/x", ROW))
        values[number or 1] = odd
        row = dict(zip((column.name for column in serialization.LEDGER), values, strict=True))
        plant_row(connection, FILE, {**row, "job": JOB, "checksum": mark(JOB, *values)})
        plant_row(
            connection,
            DIRECTORY,
            {"path": text or "/", "job": JOB, "checksum": mark(JOB, text or "/")},
        )
        state = job_states.state_row(JOB, JobState())
        state[job_states.STATE[len(data) % len(job_states.STATE)].name] = odd
        state["checksum"] = mark(JOB, *(state[column.name] for column in job_states.STATE))
        plant_row(connection, JOB_TABLE, state | {"last_run_at": text[:40]})
        intent, actions = intents.intent_rows(INTENT_VALUE)
        (
            intent["directories"],
            actions[0][("wanted", "ledger", "expected", "action")[len(data) % 4]],
        ) = odd, text
        listed = [[action[column.name] for column in intents.INTENT_ACTIONS] for action in actions]
        intent["checksum"] = mark(
            *(value for name, value in intent.items() if name != "checksum"), listed
        )
        plant_row(connection, INTENT, intent)
        plant_row(connection, INTENT_ACTION, actions[0])
        kept = {
            "job": JOB,
            "commit_sha": "a" * 40,
            "config_digest": "d",
            "applied_at": text[:40],
            "pinned": 0,
            "files": body,
        }
        plant_row(
            connection, APPLIED_SET, {**kept, "id": 1, "checksum": mark(JOB, "a" * 40, body=body)}
        )
        head = {
            "scope": "s",
            "repo": "r",
            "ref": "",
            "commit_sha": commit,
            "etag": etag,
            "form": None,
        }
        plant_row(connection, HEAD, {**head, "checksum": mark(*head.values())})
        plant_row(
            connection,
            LISTING,
            {"tree_sha": "t", "entries": body, "checksum": mark("t", body=body)},
        )
        run = {
            "job": text[:10],
            "started_at": text[:30],
            "trigger": text[:5],
            "status": text[:9],
            "commit_sha": text[:40],
        }
        plant_row(
            connection, RUN, {**run, "id": 1, "seconds": 0.0, "bytes_written": 0, "error": text}
        )
        limit = {
            "identity": text[:10],
            "installation": 0,
            "limit": 1,
            "remaining": 1,
            "reset_at": text[:40],
        }
        plant_row(connection, RATE_LIMIT, limit)

    STORE._database.write(plant)
    readings: list[Any] = [
        STORE.load_ledger(JOB),
        STORE.folders(JOB),
        STORE.state(JOB),
        STORE.sets(JOB),
        STORE.head("s", "r", None),
        STORE.load_listing("t"),
        STORE.history(),
        STORE.facts.limits(),
    ]
    readings += [
        STORE.owners(["/srv/x"]),
        STORE.changes_since(JOB, AT),
        STORE.intent(JOB),
        STORE.blobs_in_use(),
    ]
    if not whole and (readings[0] or readings[1] or readings[3] or readings[4] or readings[5]):
        raise AssertionError("a row was believed whose seal is another's")
    with suppress(
        ValueError, TypeError, KeyError, RecursionError
    ):  # what `recall` takes for "none"
        cache.decoded(json.loads(text))


def plant_row(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    with suppress(IntegrityError):  # a value that its column does not take
        upsert(connection, table, [values])


def _odd_value(text: str) -> Any:
    """The input as a value of whatever kind it reads as."""
    with suppress(ValueError, RecursionError):
        found = msgjson.decode(text)
        if isinstance(found, (int, float)) and not isinstance(found, bool) and abs(found) < 2**63:
            return found
        if found is None:
            return None
    return text


def seeds() -> Iterator[bytes]:
    texts = [
        serialization.ENCODE(ROW).decode(),
        serialization.ENCODE(ENTRY).decode(),
        '["/srv"]',
        "7",
        "null",
        "file",
        "ours",
        serialization.ENCODE({"/srv/x": ENTRY}).decode(),
        json.dumps([["x", 0o100644, "ab" * 20, 7]]),
        AT.isoformat(),
        "a" * 40 + '"etag"',
        json.dumps(cache.encoded(TreeEntry(0o100644, "ab" * 20, 7))),
        json.dumps({"~": "Secret", "=": {}}),
        json.dumps({"~": "Head", "=": {}}),
    ]
    for text in texts:
        yield b"w" + text.encode()
        yield b"d" + text.encode()


if __name__ == "__main__":
    fuzz(
        one,
        seeds(),
        [
            "null",
            "true",
            "[]",
            "{}",
            "[[",
            "file",
            "link",
            "ours",
            "1e999",
            "NaN",
            "-1",
            "2026-11-23T12:00:00+00:00",
            "write",
            "remove",
            "~",
            "=",
        ],
    )
