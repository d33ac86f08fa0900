"""What people did with a job on the status page: who, from where, when and why.

The rows of each job are bounded. A damaged row is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from syncd.store.schema import ACTION
from syncd.store.serialization import aware
from syncd.store.sqlite import insert

ACTIONS_KEPT = 500  # of each job
SYNC, PAUSE, RESUME = "sync", "pause", "resume"
PAST_ACTION = ACTION.c["job", "action", "at", "user_name", "client", "reason", "until"]


class Person(Struct, frozen=True):
    """Who acts, and from where.

    `user` is a name of `web.users`, and None for `web.password`; `client` is the address.
    """

    user: str | None
    client: str

    def describe(self) -> str:
        """Return the person in words: `octocat from 192.0.2.7`."""
        return f"{self.user or 'web.password'} from {self.client}"


class OperatorAction(Struct, frozen=True):
    """One action of a person. `action` is `sync`, `pause` or `resume`; `until` ends a pause."""

    job: str
    action: str
    at: datetime
    by: Person
    reason: str | None = None
    until: datetime | None = None

    def describe(self) -> str:
        """Return what was done in words, without the job and the time."""
        if self.action == SYNC:
            return f"sync now, by {self.by.describe()}"
        if self.action == RESUME:
            return f"resumed by {self.by.describe()}"
        until = "" if self.until is None else f" until {self.until:%Y-%m-%dT%H:%M:%SZ}"
        reason = "" if self.reason is None else f": {self.reason}"
        return f"paused{until} by {self.by.describe()}{reason}"


def add(connection: Connection, job: str, one: OperatorAction) -> None:
    """Add the action to those of the job, and delete the oldest beyond what is kept."""
    row = {
        "job": job,
        "action": one.action,
        "at": one.at.isoformat(),
        "user_name": one.by.user,
        "client": one.by.client,
        "reason": one.reason,
        "until": None if one.until is None else one.until.isoformat(),
    }
    connection.execute(insert(ACTION).values(row))
    kept = select(ACTION.c.id).where(ACTION.c.job == job).order_by(ACTION.c.id.desc())
    old = (ACTION.c.job == job, ACTION.c.id.not_in(kept.limit(ACTIONS_KEPT)))
    connection.execute(delete(ACTION).where(*old))


def actions_of(connection: Connection, job: str | None, limit: int) -> list[OperatorAction]:
    """Return the last actions of the job, or of all jobs, newest first."""
    query = select(*PAST_ACTION).order_by(ACTION.c.at.desc(), ACTION.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(ACTION.c.job == job)
    read = (_action(row) for row in connection.execute(query).all())
    return [one for one in read if one is not None]


def _action(row: Sequence[Any]) -> OperatorAction | None:
    """Return the action of a row; None where damage has changed the types of its values."""
    job, action, at_text, user, client, reason, until = row
    at = aware(at_text)
    fits = action in (SYNC, PAUSE, RESUME) and isinstance(job, str) and isinstance(client, str)
    fits = fits and all(text is None or isinstance(text, str) for text in (user, reason))
    if not fits or at is None:
        return None
    return OperatorAction(job, action, at, Person(user, client), reason, aware(until))


__all__ = ["PAUSE", "RESUME", "SYNC", "OperatorAction", "Person", "actions_of", "add"]
