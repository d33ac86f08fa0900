"""Fuzzing of the store's rows and of the notes beside it: python -m tests.fuzz.rows -max_total_time=60

The input stands where a row's own values stood, with the right seal (a disk that damages both is not the worst that can happen) and with a wrong
one. Whatever it is: it reads back as a value of its kind or counts as damage, and nobody falls over it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.store", "syncd.memo"):
    from syncd import memo
    from syncd.store import rows
    from syncd.store.store import SqliteStore

from syncd.engine.ports import Intent, JobState
from syncd.models import Action, Entry, Kind, Local, Recorded, Standing, Stat, TreeEntry, Verb
from syncd.store.database import Database
from syncd.store.schema import seal

STORE = SqliteStore(Database(None))
JOB = "nginx"
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TABLES = ("change", "run", "file", "folder", "job", "intent", "applied_set", "head", "listing", "budget")


def plant_row(connection: Connection, table: str, **values: Any) -> None:
    names, places = ", ".join(f'"{name}"' for name in values), ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)


def one(data: bytes) -> None:
    text, whole = data[1:].decode("utf-8", "replace"), data[:1] != b"d"
    body, commit, etag = zlib.compress(data[1:], 1), text[:40], text[40:80] or None

    def mark(*texts: str, body: bytes = b"") -> str:
        return seal(*texts, body=body) if whole else "0" * 16

    def plant(connection: Connection) -> None:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")
        plant_row(connection, "file", path="/srv/x", job=JOB, row=text, seal=mark(JOB, "/srv/x", text))
        plant_row(connection, "folder", path=text or "/", job=JOB, seal=mark(JOB, text or "/"))
        plant_row(connection, "job", name=JOB, state=text, seal=mark(JOB, text))
        plant_row(connection, "intent", job=JOB, body=text, seal=mark(JOB, text))
        kept = {"job": JOB, "commit": "a" * 40, "digest": "d", "applied_at": text[:40], "pinned": 0, "files": body}
        plant_row(connection, "applied_set", **kept, seal=mark(JOB, "a" * 40, body=body))
        head = {"scope": "s", "repo": "r", "ref": "", "commit": commit, "etag": etag, "form": None}
        plant_row(connection, "head", **head, seal=mark("s", "r", "", commit, f"={etag}" if etag else "-", "-"))
        plant_row(connection, "listing", tree="t", body=body, seal=mark("t", body=body))
        plant_row(connection, "run", job=text[:10], started_at=text[:30], trigger=text[:5], status=text[:9], commit=text[:40], seconds=0.0, bytes=0, error=text)
        plant_row(connection, "budget", identity=text[:10], installation=0, limit=1, remaining=1, reset_at=text[:40])

    STORE._database.write(plant)
    readings: list[Any] = [STORE.recorded(JOB), STORE.folders(JOB), STORE.state(JOB), STORE.sets(JOB), STORE.head("s", "r", None), STORE.recall("t"), STORE.history(), STORE.budgets()]
    readings += [STORE.owners(["/srv/x"]), STORE.changes_since(JOB, AT), STORE.intent(JOB), STORE.blobs_in_use()]
    if not whole and (readings[0] or readings[1] or readings[3] or readings[4] or readings[5]):
        raise AssertionError("a row was believed whose seal is another's")
    with suppress(ValueError, TypeError, KeyError, RecursionError):  # what `recall` takes for "none"
        memo.decoded(json.loads(text))


def seeds() -> Iterator[bytes]:
    entry = Entry("ab" * 20, 0o644, Kind.FILE, 0, 0, "nginx/x", 7, "/srv", 0o755)
    row = Recorded(entry, Stat(1, 2, 3, 4, 5), Standing.OURS, None)
    local = Local(Kind.FILE, "cd" * 20, 0o644, 0, 0, Stat(1, 2, 3, 4, 5))
    action = Action(Verb.WRITE, "/srv/x", entry, row, local, "new")
    texts = [
        rows.recorded_to_text(row), rows.state_to_text(JobState(applied_commit="a" * 40, last_run_at=AT)),
        rows.intent_to_text(Intent("i", JOB, "a" * 40, "d", (action,), ("/srv",), True, AT)), rows.ENCODE({"/srv/x": entry}).decode(),
        json.dumps([["x", 0o100644, "ab" * 20, 7]]), AT.isoformat(), "a" * 40 + '"etag"', json.dumps(memo.encoded(TreeEntry(0o100644, "ab" * 20, 7))),
        json.dumps({"~": "Secret", "=": {}}), json.dumps({"~": "Head", "=": {}}),
    ]  # fmt: skip
    for text in texts:
        yield b"w" + text.encode()
        yield b"d" + text.encode()


if __name__ == "__main__":
    fuzz(one, seeds(), ["null", "true", "[]", "{}", "[[", "file", "link", "ours", "1e999", "NaN", "-1", "2026-11-23T12:00:00+00:00", "write", "remove", "~", "="])
