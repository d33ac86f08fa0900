"""What an agent says of itself: one report for each run, and that its machine is there.

Each boot of a machine is a session. Two sessions of one agent whose times overlap are two machines
with one name.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from msgspec import Struct
from sqlalchemy import Connection, and_, case, select
from sqlalchemy.dialects.postgresql import insert

from syncd.fleet.leases import MAX_ERROR_CHARACTERS, NOW
from syncd.fleet.schema import JOB, PRESENCE, REPORT
from syncd.models import RunReport

# statuses that say the same: the job is good, it fails, or it waits
ALIKE = (("changed", "unchanged"), ("failed", "refused"), ("waiting", "skipped"))


NOT_LISTED = "not_listed"  # the status of a job that the agent's configuration does not have


class Presence(Struct, frozen=True):
    """An agent's machine: the id of its session, its host and its version of syncd.

    `labels` are those of its own configuration, which ask and give nothing.
    """

    session: str
    host: str
    version: str
    labels: Mapping[str, str] = {}


class AgentReport(Struct, frozen=True):
    """How a run ended, and the number of the revision that it was about; None for unknown."""

    report: RunReport
    sequence: int | None = None

    @property
    def job(self) -> str:
        """The name of the job."""
        return self.report.job


def save_report(
    connection: Connection, presence: Presence, report: RunReport, sequence: int | None = None
) -> None:
    """Write how the run ended, in the place of the job's report before it.

    `sequence`: see `AgentReport`.
    """
    save_presence(connection, presence)
    job_id = connection.execute(select(JOB.c.id).where(JOB.c.name == report.job)).scalar()
    if job_id is None:  # not granted any more: nothing may be written
        return
    error = report.error
    error_id = None if error is None else error.id
    values = {
        "reported_at": NOW,
        "status": report.status.value,
        "commit_sha": report.commit,
        "sequence": sequence,
        "changes": len(report.changes),
        "drifted": report.drift_count,
        "reload_pending": report.reload_pending,
        "checking": report.checking,
        "error_id": error_id,
        "error": None if error is None else error.message[:MAX_ERROR_CHARACTERS],
    }
    alike = next((group for group in ALIKE if report.status.value in group), ())
    is_same = and_(REPORT.c.status.in_(alike), REPORT.c.error_id.is_not_distinct_from(error_id))
    since = case((is_same, REPORT.c.since), else_=NOW)
    row = insert(REPORT).values(job_id=job_id, since=NOW, **values)
    keys = [REPORT.c.agent, REPORT.c.job_id]
    changed = {"since": since, **values}
    connection.execute(row.on_conflict_do_update(index_elements=keys, set_=changed))


def save_unlisted(connection: Connection, listed: Container[str]) -> None:
    """Write which of the agent's granted jobs its configuration does not have."""
    visible = connection.execute(select(JOB.c.id, JOB.c.name))
    unlisted = [row.id for row in visible if row.name not in listed]
    values = {"reported_at": NOW, "since": NOW, "status": NOT_LISTED, "error_id": None}
    values |= {"commit_sha": None, "sequence": None, "error": None}
    nothing = {"changes": 0, "drifted": 0, "reload_pending": False, "checking": False}
    for job_id in unlisted:
        row = insert(REPORT).values(job_id=job_id, **values, **nothing)
        keys = [REPORT.c.agent, REPORT.c.job_id]
        is_new = REPORT.c.status != NOT_LISTED
        connection.execute(
            row.on_conflict_do_update(index_elements=keys, set_=values | nothing, where=is_new)
        )


def save_presence(connection: Connection, presence: Presence) -> None:
    """Write that the machine is there now."""
    facts = {"host": presence.host, "version": presence.version, "seen_at": NOW}
    facts["labels"] = dict(presence.labels)
    row = insert(PRESENCE).values(session=presence.session, **facts)
    keys = [PRESENCE.c.agent, PRESENCE.c.session]
    connection.execute(row.on_conflict_do_update(index_elements=keys, set_=facts))


__all__ = ["AgentReport", "Presence", "save_presence", "save_report", "save_unlisted"]
