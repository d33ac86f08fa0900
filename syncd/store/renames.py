"""Brings everything that is stored of a job under another name, in the caller's transaction.

A damaged row stays under the old name: what it says is not known, so it belongs to nobody's files.
"""

from __future__ import annotations

from sqlite3 import Connection

from msgspec.structs import replace

from syncd.store import rows
from syncd.store.schema import is_whole, seal


def rename(connection: Connection, old: str, new: str) -> None:
    _rename_files(connection, old, new)
    _rename_folders(connection, old, new)
    _rename_state(connection, old, new)
    _rename_intent(connection, old, new)
    _rename_sets(connection, old, new)
    connection.execute("UPDATE run SET job = ? WHERE job = ?", (new, old))
    connection.execute("UPDATE OR REPLACE notice SET job = ? WHERE job = ?", (new, old))


def _rename_files(connection: Connection, old: str, new: str) -> None:
    query = "SELECT path, row, seal FROM file WHERE job = ?"
    found = connection.execute(query, (old,)).fetchall()
    whole = [(path, row) for path, row, mark in found if is_whole(mark, old, path, row)]
    values = ((new, seal(new, path, row), path) for path, row in whole)
    connection.executemany("UPDATE file SET job = ?, seal = ? WHERE path = ?", values)


def _rename_folders(connection: Connection, old: str, new: str) -> None:
    found = connection.execute("SELECT path, seal FROM folder WHERE job = ?", (old,)).fetchall()
    whole = [path for path, mark in found if is_whole(mark, old, path)]
    values = ((new, seal(new, path), path) for path in whole)
    connection.executemany("UPDATE folder SET job = ?, seal = ? WHERE path = ?", values)


def _rename_state(connection: Connection, old: str, new: str) -> None:
    found = connection.execute("SELECT state, seal FROM job WHERE name = ?", (old,)).fetchall()
    for state, mark in found:
        if is_whole(mark, old, state):
            values = (new, seal(new, state), old)
            connection.execute("UPDATE job SET name = ?, seal = ? WHERE name = ?", values)


def _rename_intent(connection: Connection, old: str, new: str) -> None:
    found = connection.execute("SELECT body, seal FROM intent WHERE job = ?", (old,)).fetchall()
    for body, mark in found:
        if is_whole(mark, old, body):
            text = rows.intent_to_text(replace(rows.intent_from_text(body), job=new))
            change = "UPDATE intent SET job = ?, body = ?, seal = ? WHERE job = ?"
            connection.execute(change, (new, text, seal(new, text), old))


def _rename_sets(connection: Connection, old: str, new: str) -> None:
    query = 'SELECT id, "commit", files, seal FROM applied_set WHERE job = ?'
    for number, commit, files, mark in connection.execute(query, (old,)).fetchall():
        if is_whole(mark, old, commit, body=files):
            values = (new, seal(new, commit, body=files), number)
            connection.execute("UPDATE applied_set SET job = ?, seal = ? WHERE id = ?", values)
