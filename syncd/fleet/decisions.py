"""What operators and controllers decided, as it is recorded: who, when, what."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, select

from syncd.fleet.schema import DECISION


class RecordedDecision(Struct, frozen=True):
    """One decision. `login` is that of the database, `who` what the command or controller said.

    `job` is None for one that is about agents and no single job.
    """

    at: datetime
    login: str
    who: str
    job: str | None
    action: str
    detail: str


def recorded_decisions(
    connection: Connection, job: str | None, at_most: int
) -> list[RecordedDecision]:
    """Return the last decisions, of one job where it is given, the newest first."""
    columns = DECISION.c["at", "login", "who", "job", "action", "detail"]
    query = select(*columns).order_by(DECISION.c.id.desc()).limit(at_most)
    if job is not None:
        query = query.where(DECISION.c.job == job)
    return [RecordedDecision(*row) for row in connection.execute(query)]


__all__ = ["RecordedDecision", "recorded_decisions"]
