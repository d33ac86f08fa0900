"""Records that a one-shot found nothing to do, without the libraries that the store is built on.

It writes what the full run would have written for a run without changes, or nothing. It decides
nothing about files.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from urllib.parse import quote

BUSY_SECONDS = 5.0
MAX_COUNTER = 0x7FFFFFFF  # SQLite's user_version is a signed 32-bit number
SET_SUCCESS = "UPDATE job SET last_run_at = ?1, last_success_at = ?1 WHERE name = ?2"
SET_LIMIT = (
    'UPDATE rate_limit SET "limit" = ?3, remaining = ?4, reset_at = ?5'
    " WHERE identity = ?1 AND installation = ?2"
)


def next_counter(counter: int) -> int:
    """Return the write counter after this one.

    A new store begins at a random number, so that its counter is not taken for that of another
    store.
    """
    if counter <= 0 or counter >= MAX_COUNTER:
        return int.from_bytes(os.urandom(3), "big") + 1
    return counter + 1


def record_unchanged(
    file: str,
    counter: int,
    jobs: Sequence[str],
    limits: Mapping[tuple[str, int], tuple[int, int, str]],
    now: str,
) -> bool:
    """Record in one transaction that every job succeeded at `now` (RFC 3339), and the rate limits.

    `limits` maps identity and installation (0 for none) to limit, remaining requests and time of
    the reset. Returns False, having written nothing, when the store was written since it counted
    `counter`, or lacks a job. Raises sqlite3.Error when the store cannot be used.
    """
    connection = sqlite3.connect(
        f"file:{quote(file)}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        connection.execute("PRAGMA synchronous=FULL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone() != (counter,):
            return False  # closing rolls back
        for job in jobs:
            if connection.execute(SET_SUCCESS, (now, job)).rowcount != 1:
                return False
        connection.executemany(SET_LIMIT, [(*key, *values) for key, values in limits.items()])
        connection.execute("COMMIT")
        return True
    finally:
        connection.close()
