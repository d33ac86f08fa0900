"""Runs that were recorded since a reader last looked, for a command that shows them as they come.

A failure that repeats keeps its row and gets a new time, so that rows are new by their id or by
their time.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from sqlalchemy import Connection, func, or_, select

from syncd.store.schema import CHANGE, RUN

MAX_RUNS = 1000  # of one reading; the next one returns the others


class Position(Struct, frozen=True):
    """The end of the history: the newest id, and the latest time at which a run began."""

    id: int = 0
    started_at: str = ""


class NewRun(Struct, frozen=True):
    """One run of the history, with the number of its changes by action."""

    id: int
    job: str
    started_at: str
    trigger: str
    status: str
    commit: str | None
    seconds: float
    error: str | None
    changes: Mapping[str, int] = field(default_factory=dict)


COLUMNS = RUN.c["id", "job", "started_at", "trigger", "status", "commit_sha", "seconds", "error"]


def end_of_history(connection: Connection) -> Position:
    """Return the position after every run that is recorded now."""
    found = connection.execute(select(func.max(RUN.c.id), func.max(RUN.c.started_at))).one()
    return Position(found[0] or 0, found[1] or "")


def runs_after(connection: Connection, position: Position) -> list[NewRun]:
    """Return the runs after the position, in the order in which they began."""
    is_new = or_(RUN.c.id > position.id, RUN.c.started_at > position.started_at)
    query = select(*COLUMNS).where(is_new).order_by(RUN.c.started_at, RUN.c.id).limit(MAX_RUNS)
    rows = connection.execute(query).all()
    counts: dict[int, dict[str, int]] = {}
    chosen = select(CHANGE.c.run, CHANGE.c.action, func.count()).where(
        CHANGE.c.run.in_([row[0] for row in rows])
    )
    for run, action, count in connection.execute(chosen.group_by(CHANGE.c.run, CHANGE.c.action)):
        counts.setdefault(run, {})[str(action)] = count
    return [NewRun(*(*row, counts.get(row[0], {}))) for row in rows]


__all__ = ["NewRun", "Position", "end_of_history", "runs_after"]
