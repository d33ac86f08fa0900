"""Which controllers run, and which jobs they list: a job that none lists may be forgotten.

A controller writes its row when it loads its configuration, and again and again that it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from syncd.errors import ConfigError
from syncd.fleet.leases import NOW
from syncd.fleet.schema import CONTROLLER, JOB
from syncd.fleet.waves import decide, job_row

SEEN_EVERY_SECONDS = 30.0
GONE_AFTER = timedelta(minutes=2)


def save_controller(
    connection: Connection, name: str, version: str, jobs: Mapping[str, str]
) -> None:
    """Write that a controller runs, and job -> digest of what it lists."""
    facts = {"version": version, "jobs": dict(jobs), "seen_at": NOW}
    row = insert(CONTROLLER).values(name=name, **facts)
    connection.execute(row.on_conflict_do_update(index_elements=[CONTROLLER.c.name], set_=facts))


def still_there(connection: Connection, name: str) -> bool:
    """Write that a controller is there; return False where its row is gone."""
    seen = update(CONTROLLER).where(CONTROLLER.c.name == name).values(seen_at=NOW)
    return connection.execute(seen).rowcount == 1


def remove_controller(connection: Connection, name: str) -> None:
    """Remove a controller that stops."""
    connection.execute(delete(CONTROLLER).where(CONTROLLER.c.name == name))


def running_controllers(connection: Connection) -> dict[str, dict[str, str]]:
    """Return the controllers that were seen lately, and what each lists: job -> digest."""
    lately = CONTROLLER.c.seen_at > NOW - GONE_AFTER
    rows = connection.execute(select(CONTROLLER).where(lately).order_by(CONTROLLER.c.name))
    return {row.name: dict(row.jobs) for row in rows}


def forget_job(connection: Connection, name: str, who: str) -> None:
    """Remove a job that no controller lists, with its revisions, grants and reports.

    Decisions about it stay. Raises ConfigError for an unknown job, and where a controller has it.
    """
    row = job_row(connection, name)
    running = running_controllers(connection)
    listed = [one for one, jobs in running.items() if name in jobs]
    if not running:
        raise ConfigError(
            f"{name}: no controller runs, so that none says which jobs there are",
            id="config/fleet-no-controller",
            hint="start a controller without the job, then type it again",
        )
    if listed or _is_polled(connection, row.id):
        by = ", ".join(listed) or row.worker or "a controller"
        raise ConfigError(
            f"{name}: a controller has the job in its configuration: {by}",
            id="config/fleet-job-listed",
            hint="remove it from the configuration of each controller, and reload them",
        )
    decide(connection, who, row.id, "forget", row.repo)
    connection.execute(delete(JOB).where(JOB.c.id == row.id))


def _is_polled(connection: Connection, job_id: int) -> bool:
    """Return whether a controller works on the job, also one that an older version runs."""
    lately = or_(JOB.c.lease_until > NOW, JOB.c.polled_at > NOW - GONE_AFTER)
    query = select(JOB.c.id).where(JOB.c.id == job_id, JOB.c.worker.is_not(None), lately)
    return connection.execute(query).first() is not None


__all__ = [
    "SEEN_EVERY_SECONDS",
    "forget_job",
    "remove_controller",
    "running_controllers",
    "save_controller",
    "still_there",
]
