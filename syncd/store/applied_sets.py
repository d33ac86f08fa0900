"""Statements over the applied sets: the complete sets of files that a rollback can return to."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from syncd.models import LedgerRow
from syncd.ports import AppliedSet, RunRecord
from syncd.store import serialization
from syncd.store.checksum import checksum, matches
from syncd.store.schema import APPLIED_SET

SETS_KEPT = 5  # of each job


def load(connection: Connection, job: str) -> list[AppliedSet]:
    """Return the job's sets, newest first, without damaged ones."""
    columns = APPLIED_SET.c["id", "commit_sha", "config_digest", "applied_at", "files", "checksum"]
    query = select(*columns).where(APPLIED_SET.c.job == job).order_by(APPLIED_SET.c.id.desc())
    found = []
    for number, commit, digest, at, body, stored_checksum in connection.execute(query):
        try:
            if matches(stored_checksum, job, commit, body=body):
                files = serialization.files_from_bytes(body)
                applied_at = datetime.fromisoformat(at)
                found.append(AppliedSet(number, job, commit, digest, applied_at, files))
        except (ValueError, TypeError, zlib.error):
            continue
    return found


def save(
    connection: Connection, job: str, record: RunRecord, files: Mapping[str, LedgerRow]
) -> None:
    """Save these files as the newest set, and delete the oldest ones.

    A set of the same commit is replaced.
    """
    commit, body = record.report.commit or "", serialization.set_to_bytes(files)
    applied_at = record.state.last_run_at or datetime.now().astimezone()
    values: dict[str, Any] = {
        "job": job,
        "commit_sha": commit,
        "config_digest": record.state.applied_config_digest or "",
        "applied_at": applied_at.isoformat(),
        "pinned": 0,  # the column is not used
        "files": body,
        "checksum": checksum(job, commit, body=body),
    }
    newest = _newest(connection, job)
    if newest is not None and newest[1] == commit:
        change = update(APPLIED_SET).where(APPLIED_SET.c.id == newest[0])
        connection.execute(change.values(values))
    else:
        connection.execute(APPLIED_SET.insert().values(values))
    mine = APPLIED_SET.c.job == job
    kept = select(APPLIED_SET.c.id).where(mine).order_by(APPLIED_SET.c.id.desc())
    old = APPLIED_SET.c.id.not_in(kept.limit(SETS_KEPT))
    connection.execute(delete(APPLIED_SET).where(mine, old))


def remove_newest(connection: Connection, job: str, commit: str) -> None:
    """Delete the job's newest set, if it is of this commit."""
    newest = select(func.max(APPLIED_SET.c.id)).where(APPLIED_SET.c.job == job).scalar_subquery()
    is_it = (APPLIED_SET.c.id == newest, APPLIED_SET.c.commit_sha == commit)
    connection.execute(delete(APPLIED_SET).where(*is_it))


def _newest(connection: Connection, job: str) -> Any:
    """Return id and commit of the job's newest set; None where there is none."""
    query = select(*APPLIED_SET.c["id", "commit_sha"]).where(APPLIED_SET.c.job == job)
    return connection.execute(query.order_by(APPLIED_SET.c.id.desc()).limit(1)).first()
