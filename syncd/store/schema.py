"""The store's tables (SQLAlchemy Core). migrations/ makes them; a test keeps the two equal.

Rows that decide about files carry a `seal` over their values: a row that the disk has damaged is left out, never believed.
Values that are only read whole are kept as one JSON text, so that a new field needs no migration.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text

from syncd.store.quiet import seal

VERSION = "0003"

metadata = MetaData()

file = Table("file", metadata, Column("path", Text, primary_key=True), Column("job", Text, nullable=False), Column("row", Text, nullable=False), Column("seal", Text, nullable=False))
Index("file_job", file.c.job)

folder = Table("folder", metadata, Column("path", Text, primary_key=True), Column("job", Text, nullable=False), Column("seal", Text, nullable=False, server_default=""))

job = Table("job", metadata, Column("name", Text, primary_key=True), Column("state", Text, nullable=False), Column("seal", Text, nullable=False))

intent = Table("intent", metadata, Column("job", Text, primary_key=True), Column("body", Text, nullable=False), Column("seal", Text, nullable=False))

applied_set = Table(
    "applied_set",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
    Column("pinned", Integer, nullable=False),
    Column("files", LargeBinary, nullable=False),
    Column("seal", Text, nullable=False),
)
Index("applied_set_job", applied_set.c.job)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("commit", Text),
    Column("previous", Text),
    Column("seconds", Float, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("error_kind", Text),
    Column("error", Text),
)
Index("run_job", run.c.job, run.c.id)

change = Table(
    "change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("action", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("source", Text),
    Column("before", Text),
    Column("after", Text),
)
Index("change_run", change.c.run)
Index("change_path", change.c.path)

head = Table(
    "head",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("repo", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("commit", Text, nullable=False),
    Column("etag", Text),
    Column("form", Text),
    Column("seal", Text, nullable=False, server_default=""),
)

listing = Table("listing", metadata, Column("tree", Text, primary_key=True), Column("body", LargeBinary, nullable=False), Column("seal", Text, nullable=False))

budget = Table("budget", metadata, Column("identity", Text, primary_key=True), Column("limit", Integer), Column("remaining", Integer), Column("reset_at", Text))

notice = Table(
    "notice",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
)

delivery = Table(
    "delivery",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("host", Text),
    Column("sent", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("last_sent_at", Float),
    Column("last_failed_at", Float),
    Column("error", Text),
)


def is_whole(mark: Any, *texts: Any, body: Any = b"") -> bool:
    """Do the values match their seal, and are they of the types that were sealed? Damage can turn a text into a number, a blob or nothing."""
    if not isinstance(body, bytes) or not all(isinstance(text, str) for text in texts):
        return False
    return bool(mark == seal(*texts, *([body] if body else [])))


__all__ = ["VERSION", "applied_set", "budget", "change", "delivery", "file", "folder", "head", "intent", "is_whole", "job", "listing", "metadata", "notice", "run", "seal"]
