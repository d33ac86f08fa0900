"""Who made a commit and the first line of its message, where syncd read it for another reason.

They decide nothing, and syncd asks GitHub for none of them to fill this table. The newest are kept.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, select

from syncd.models import CommitSummary
from syncd.store.schema import COMMIT_SUMMARY
from syncd.store.sqlite import in_parts, upsert
from syncd.text import shortened

SUMMARIES_KEPT = 2000
MAX_SUBJECT_CHARACTERS, MAX_AUTHOR_CHARACTERS = 200, 100


def add(connection: Connection, commit: str, summary: CommitSummary, at: datetime) -> None:
    """Save what is known of the commit, and delete the oldest beyond what is kept."""
    row = {
        "commit_sha": commit,
        "subject": shortened(summary.subject, MAX_SUBJECT_CHARACTERS),
        "author": shortened(summary.author, MAX_AUTHOR_CHARACTERS),
        "noted_at": at.isoformat(),
    }
    upsert(connection, COMMIT_SUMMARY, [row])
    table = COMMIT_SUMMARY
    kept = select(table.c.commit_sha).order_by(table.c.noted_at.desc()).limit(SUMMARIES_KEPT)
    connection.execute(delete(table).where(table.c.commit_sha.not_in(kept)))


def summaries_of(connection: Connection, commits: Collection[str]) -> dict[str, CommitSummary]:
    """Return what is known of these commits."""
    found: dict[str, CommitSummary] = {}
    columns = COMMIT_SUMMARY.c["commit_sha", "subject", "author"]
    for part in in_parts(set(commits)):
        query = select(*columns).where(COMMIT_SUMMARY.c.commit_sha.in_(part))
        for commit, subject, author in connection.execute(query).all():
            if all(isinstance(text, str) for text in (commit, subject, author)):
                found[commit] = CommitSummary(subject, author)
    return found


__all__ = ["add", "summaries_of"]
