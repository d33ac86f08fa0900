"""Statements over the heads: the commit that each ref named when GitHub was last asked."""

from __future__ import annotations

from sqlalchemy import Connection, select

from syncd.git_objects import is_object_id
from syncd.ports import Head
from syncd.store.checksum import checksum, matches
from syncd.store.schema import HEAD
from syncd.store.sqlite import upsert


def load(connection: Connection, scope: str, repo: str, ref: str | None) -> Head | None:
    """Return the head of the ref (None for the default branch); None for none, or a damaged row."""
    columns = HEAD.c["commit_sha", "etag", "form", "checked_at", "checksum"]
    is_it = (HEAD.c.scope == scope, HEAD.c.repo == repo, HEAD.c.ref == (ref or ""))
    row = connection.execute(select(*columns).where(*is_it)).first()
    if row is None:
        return None
    commit, etag, form, checked_at, stored_checksum = row
    is_valid = matches(stored_checksum, scope, repo, ref or "", commit, etag, form)
    if not is_valid or not is_object_id(commit):
        return None
    return Head(
        commit, etag, form, checked_at=checked_at if isinstance(checked_at, float) else None
    )


def save(connection: Connection, scope: str, repo: str, ref: str | None, head: Head) -> None:
    """Store the head in the place of the ref's former one."""
    key = {"scope": scope, "repo": repo, "ref": ref or ""}
    values = {"commit_sha": head.commit, "etag": head.etag, "form": head.form}
    row = {
        **key,
        **values,
        "checked_at": head.checked_at,
        "checksum": checksum(*key.values(), *values.values()),
    }
    upsert(connection, HEAD, [row])
