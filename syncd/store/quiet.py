"""What the quick check needs of the store, without the libraries that the store is built on: its file, its counter, its seal.

Promises: a quiet run is remembered as the full run would have remembered it, or nothing is written. Decides nothing about files.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from urllib.parse import quote

BUSY_SECONDS = 5.0
COUNTER_ENDS = 0x7FFFFFFF  # SQLite's user_version is a signed 32-bit number


def seal(*texts: str, body: bytes = b"") -> str:
    """Eight bytes that change with any bit of the values. Raises TypeError for what is no text, or no bytes."""
    whole = "\0".join((*texts, "")).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole + body + b"\0" if body else whole, digest_size=8).hexdigest()


def next_counter(found: int) -> int:
    """The number after `found` writes; a new store begins anywhere, so that its count is not taken for another store's."""
    if found <= 0 or found >= COUNTER_ENDS:
        return int.from_bytes(os.urandom(3), "big") + 1
    return found + 1


def record_quiet(file: str, counter: int, jobs: Iterable[str], budgets: Mapping[str, tuple[int, int, str]], now: str) -> bool:
    """Every job ran and succeeded at `now` (RFC 3339), and the budgets were seen; one transaction.

    False, and nothing was written, when the store was written since it counted `counter`, or a job's row is damaged: then what was
    known of it is not known any more. Raises sqlite3.Error when the store can't be used.
    """
    connection = sqlite3.connect(f"file:{quote(file)}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone() != (counter,):
            return False  # closing rolls back
        rows = []
        for job in jobs:
            row = connection.execute("SELECT state, seal FROM job WHERE name = ?", (job,)).fetchone()
            if row is None or not isinstance(row[0], str) or row[1] != seal(job, row[0]):
                return False
            state = json.dumps({**json.loads(row[0]), "last_run_at": now, "last_success_at": now}, separators=(",", ":"), sort_keys=True)
            rows.append((state, seal(job, state), job))
        connection.executemany("UPDATE job SET state = ?, seal = ? WHERE name = ?", rows)
        seen = [(identity, limit, remaining, reset) for identity, (limit, remaining, reset) in budgets.items()]
        connection.executemany('UPDATE budget SET "limit" = ?2, remaining = ?3, reset_at = ?4 WHERE identity = ?1 AND installation = 0', seen)
        connection.execute("COMMIT")
        return True
    finally:
        connection.close()
