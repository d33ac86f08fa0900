"""What this process knows of its fleet: the database, its own part, and the last reading.

Pure: no I/O. `syncd.daemon.fleet_watch` fills it. A machine without a fleet loads only these
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:  # it needs SQLAlchemy's dialect of PostgreSQL
    from syncd.fleet.overview import FleetReading

POLL_OUTCOMES = ("published", "unchanged", "failed", "refused")


class DatabaseState(Struct, frozen=True):
    """Whether the fleet's database answers, and since when that is so.

    `up` is None before its first answer or failure; `error` is what went wrong last.
    """

    up: bool | None = None
    since: datetime | None = None
    error: str | None = None


class ControllerStats(Struct, frozen=True):
    """What a controller does: the jobs that it holds now, and its polls since its start.

    `polls` counts by `POLL_OUTCOMES`; refused are those whose job another controller had claimed.
    """

    leases: int = 0
    polls: Mapping[str, int] = {}


class AgentStats(Struct, frozen=True):
    """What an agent knows: the notices since its start, and job -> since when a published commit is
    not applied.

    A job whose last published commit is applied has None.
    """

    notices: int = 0
    behind_since: Mapping[str, datetime | None] = {}


class FleetLook(Struct, frozen=True):
    """How the fleet is, as far as this process knows.

    `reading` is the last one, and as old as it says while the database is away; an agent has none.
    `pages` are the addresses of the jobs' repositories.
    """

    at: datetime
    database: DatabaseState = DatabaseState()
    reading: FleetReading | None = None
    controller: ControllerStats | None = None
    agent: AgentStats | None = None
    pages: Mapping[str, str] = {}


__all__ = ["POLL_OUTCOMES", "AgentStats", "ControllerStats", "DatabaseState", "FleetLook"]
