"""The same memory as a store of schema 0004 had it: rows as JSON texts with a seal."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.json import encode

from syncd.ports import JobState
from syncd.store.job_states import state_row
from syncd.store.migrate import stamp_of
from syncd.store.store import FILE_NAME, SqliteStore

SCHEMA = Path(__file__).resolve().parents[1] / "fixtures/store/0004.sql"
VERSION = "0004"


def seal(*texts: str, body: bytes = b"") -> str:
    """As versions before 0005 sealed a row."""
    whole = "\0".join((*texts, "")).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole + body + b"\0" if body else whole, digest_size=8).hexdigest()


def downgraded(state_dir: Path) -> None:
    """Put a store of schema 0004 in the place of the present one, with its ledger, states,
    sets and history.

    No intent is open.
    """
    file = state_dir / FILE_NAME
    store = SqliteStore.open(state_dir)
    rows = {
        job: (store.load_ledger(job), store.folders(job), store.state(job)) for job in store.jobs()
    }
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        sets = connection.execute(
            "SELECT id, job, commit_sha, config_digest, applied_at, pinned, files FROM applied_set"
        ).fetchall()
        runs = connection.execute(
            'SELECT id, job, started_at, "trigger", status, commit_sha, previous_commit_sha, '
            "seconds, bytes_written, error_kind, error FROM run"
        ).fetchall()
        changes = connection.execute(
            "SELECT id, run, action, path, source, before_sha, after_sha FROM change"
        ).fetchall()
    for old in state_dir.glob(f"{FILE_NAME}*"):
        old.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(_schema())
        for job, (ledger, folders, state) in rows.items():
            for path, row in ledger.items():
                _put(
                    connection,
                    "file",
                    path,
                    job,
                    *_sealed(encode(row).decode(), job, path),
                    row.real or path,
                )
            for folder in folders:
                _put(connection, "folder", folder, job, seal(job, folder))
            _put(connection, "job", job, *_sealed(_state_text(state), job))
        for one in sets:
            _put(connection, "applied_set", *one, seal(one[1], one[2], body=one[6]))
        for run in runs:
            _put(connection, "run", *run)
        for change in changes:
            _put(connection, "change", *change)
        connection.commit()
        connection.execute(f"PRAGMA application_id = {stamp_of(VERSION)}")
        connection.execute("PRAGMA journal_mode = WAL")
    file.chmod(0o600)


def _schema() -> str:
    """The statements that make the tables, and the version."""
    statements = re.split(r";\n", SCHEMA.read_text())
    kept = [
        one for one in statements if one.lstrip().startswith("CREATE") or "alembic_version" in one
    ]
    return ";\n".join(kept) + ";"


def _put(connection: sqlite3.Connection, table: str, *values: Any) -> None:
    marks = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)


def _sealed(text: str, *before: str) -> tuple[str, str]:
    return text, seal(*before, text)


def _state_text(state: JobState) -> str:
    return json.dumps(state_row("", state), separators=(",", ":"), sort_keys=True)
