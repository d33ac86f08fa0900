"""The store's tables, as a new database gets them. migrations/ brings older ones here; a test keeps the two equal.

Rows that decide about files carry a `seal` over their values: a row that the disk has damaged is left out, never believed.
Values that are only read whole are kept as one JSON text, so that a new field needs no migration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from syncd.store.quiet import seal

VERSION = "0004"

TABLES = (
    "CREATE TABLE file (path TEXT NOT NULL, job TEXT NOT NULL, row TEXT NOT NULL, seal TEXT NOT NULL, real_path TEXT, PRIMARY KEY (path))",
    "CREATE TABLE folder (path TEXT NOT NULL, job TEXT NOT NULL, seal TEXT DEFAULT '' NOT NULL, PRIMARY KEY (path))",
    "CREATE TABLE job (name TEXT NOT NULL, state TEXT NOT NULL, seal TEXT NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE intent (job TEXT NOT NULL, body TEXT NOT NULL, seal TEXT NOT NULL, PRIMARY KEY (job))",
    """CREATE TABLE applied_set (
        id INTEGER NOT NULL, job TEXT NOT NULL, "commit" TEXT NOT NULL, digest TEXT NOT NULL, applied_at TEXT NOT NULL, pinned INTEGER NOT NULL,
        files BLOB NOT NULL, seal TEXT NOT NULL, PRIMARY KEY (id))""",
    """CREATE TABLE run (
        id INTEGER NOT NULL, job TEXT NOT NULL, started_at TEXT NOT NULL, "trigger" TEXT NOT NULL, status TEXT NOT NULL, "commit" TEXT, previous TEXT,
        seconds FLOAT NOT NULL, bytes INTEGER NOT NULL, error_kind TEXT, error TEXT, PRIMARY KEY (id))""",
    """CREATE TABLE change (
        id INTEGER NOT NULL, run INTEGER NOT NULL, action TEXT NOT NULL, path TEXT NOT NULL, source TEXT, before TEXT, after TEXT,
        PRIMARY KEY (id), FOREIGN KEY (run) REFERENCES run (id) ON DELETE CASCADE)""",
    """CREATE TABLE head (
        scope TEXT NOT NULL, repo TEXT NOT NULL, ref TEXT NOT NULL, "commit" TEXT NOT NULL, etag TEXT, form TEXT, seal TEXT DEFAULT '' NOT NULL,
        checked_at FLOAT, PRIMARY KEY (scope, repo, ref))""",
    "CREATE TABLE listing (tree TEXT NOT NULL, body BLOB NOT NULL, seal TEXT NOT NULL, PRIMARY KEY (tree))",
    """CREATE TABLE budget (
        identity TEXT NOT NULL, installation INTEGER NOT NULL, account TEXT, "limit" INTEGER, remaining INTEGER, reset_at TEXT,
        PRIMARY KEY (identity, installation))""",
    """CREATE TABLE notice (
        endpoint TEXT NOT NULL, job TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, created_at FLOAT NOT NULL, attempts INTEGER NOT NULL,
        PRIMARY KEY (endpoint, job))""",
    """CREATE TABLE delivery (
        endpoint TEXT NOT NULL, host TEXT, sent INTEGER NOT NULL, failed INTEGER NOT NULL, dropped INTEGER NOT NULL, last_sent_at FLOAT,
        last_failed_at FLOAT, error TEXT, paused_until FLOAT, failures INTEGER DEFAULT 0 NOT NULL,
        PRIMARY KEY (endpoint))""",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
)
INDEXES = (
    "CREATE INDEX file_job ON file (job)",
    "CREATE INDEX file_real_path ON file (real_path)",
    "CREATE INDEX applied_set_job ON applied_set (job)",
    "CREATE INDEX run_job ON run (job, id)",
    "CREATE INDEX change_run ON change (run)",
    "CREATE INDEX change_path ON change (path)",
)

def is_whole(mark: Any, *texts: Any, body: Any = b"") -> bool:
    """Do the values match their seal, and are they of the types that were sealed? Damage can turn a text into a number, a blob or nothing."""
    try:
        return bool(mark == seal(*texts, body=body))
    except TypeError:
        return False


def whole_rows(job: str, found: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[str, str]]:
    """The path and text of each of the ledger's (path, text, seal) that matches its seal. Thousands are read at once."""
    for path, text, mark in found:
        try:
            if mark == seal(job, path, text):
                yield path, text
        except TypeError:
            continue


__all__ = ["INDEXES", "TABLES", "VERSION", "is_whole", "seal", "whole_rows"]
