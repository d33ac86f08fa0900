"""How the fleet is: what is published, which agents have it, and which of them are two machines.

Read by controllers. What an agent reported is compared with the last revision here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, and_, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from syncd.fleet.controllers import running_controllers
from syncd.fleet.leases import NOW
from syncd.fleet.reports import NOT_LISTED
from syncd.fleet.schema import AGENT, DECISION, GRANT, JOB, PRESENCE, REPORT, REVISION
from syncd.fleet.waves import RolloutState, has_revision, rollouts

MAX_DECISIONS = 10  # of a job, on the page
TWIN_WINDOW = timedelta(hours=1)  # sessions that were seen within it are compared


class AgentState(StrEnum):
    """How an agent is with one job."""

    IN_SYNC = "in_sync"
    BEHIND = "behind"  # it has another commit, and no failure
    FAILING = "failing"
    WAITING = "waiting"  # paused, held, or outside its windows
    NEVER = "never"  # it has not reported


class AgentJob(Struct, frozen=True):
    """What one agent said last of one job that it was granted.

    `since` is when it began to be so; for one that is behind, when the last commit was published.
    """

    agent: str
    job: str
    state: AgentState
    commit: str | None = None
    reported_at: datetime | None = None
    error_id: str | None = None
    error: str | None = None
    since: datetime | None = None


class Halted(Struct, frozen=True):
    """That an operator halted a job: when, who and why."""

    at: datetime
    by: str
    reason: str


class FleetJob(Struct, frozen=True):
    """One job: its last revision, its poll, and the agents that it was granted to."""

    name: str
    repo: str
    ref: str | None
    commit: str | None
    sequence: int
    published_at: datetime | None
    worker: str | None  # the controller that holds it now
    polled_at: datetime | None
    next_at: datetime
    failures: int
    error_id: str | None
    error: str | None
    agents: tuple[AgentJob, ...]
    halted: Halted | None = None
    rollout: RolloutState | None = None  # while not every agent may have the last commit
    where: Mapping[str, str] = {}  # the labels that choose its agents; {}: grants alone
    # controller -> digest of what it lists of the job; None: no controller runs
    controllers: Mapping[str, str] | None = None


class FleetAgent(Struct, frozen=True):
    """One agent: where it was last seen, and its jobs.

    `twins` are hosts that used its login at the same time; there are none where all is well.
    `labels` are granted; `asked` are those that only its own configuration has.
    """

    name: str
    host: str | None
    version: str | None
    seen_at: datetime | None
    twins: tuple[str, ...]
    jobs: tuple[AgentJob, ...]
    labels: Mapping[str, str] = {}
    asked: Mapping[str, str] = {}


class Decision(Struct, frozen=True):
    """What an operator or a controller decided about a job: when, who and what."""

    at: datetime
    who: str
    action: str
    detail: str


class FleetReading(Struct, frozen=True):
    """The whole fleet at one moment of the database's clock.

    `decisions` has the last ones of each job, the newest first.
    """

    at: datetime
    jobs: tuple[FleetJob, ...]
    agents: tuple[FleetAgent, ...]
    decisions: Mapping[str, tuple[Decision, ...]] = {}


def read_fleet(connection: Connection) -> FleetReading:
    """Return the whole fleet as it is now."""
    return FleetReading(
        connection.execute(select(NOW)).scalar_one(),
        tuple(fleet_jobs(connection)),
        tuple(fleet_agents(connection)),
        recent_decisions(connection),
    )


def recent_decisions(connection: Connection) -> dict[str, tuple[Decision, ...]]:
    """Return job -> its last MAX_DECISIONS decisions, the newest first."""
    place = func.row_number().over(partition_by=DECISION.c.job_id, order_by=DECISION.c.id.desc())
    numbered = select(DECISION, place.label("place")).subquery()
    query = (
        select(JOB.c.name, numbered)
        .join(numbered, numbered.c.job_id == JOB.c.id)
        .where(numbered.c.place <= MAX_DECISIONS)
        .order_by(numbered.c.id.desc())
    )
    found: dict[str, list[Decision]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.name].append(Decision(row.at, row.who, row.action, row.detail))
    return {job: tuple(decisions) for job, decisions in found.items()}


def fleet_jobs(connection: Connection) -> list[FleetJob]:
    """Return every job, in the order of the names."""
    last = and_(REVISION.c.job_id == JOB.c.id, REVISION.c.sequence == JOB.c.sequence)
    query = (
        select(JOB, REVISION.c.commit_sha, REVISION.c.created_at)
        .join(REVISION, last, isouter=True)
        .order_by(JOB.c.name)
    )
    under_way, running = rollouts(connection), running_controllers(connection)
    agents = defaultdict(list)
    for one in agent_jobs(connection):
        agents[one.job].append(one)
    return [
        FleetJob(
            row.name,
            row.repo,
            row.ref,
            row.commit_sha,
            row.sequence,
            row.created_at,
            row.worker,
            row.polled_at,
            row.next_at,
            row.failures,
            row.error_id,
            row.error,
            tuple(agents[row.name]),
            _halted(row),
            under_way.get(row.name),
            _labels(row.selector),
            {one: jobs[row.name] for one, jobs in running.items() if row.name in jobs}
            if running
            else None,
        )
        for row in connection.execute(query)
    ]


def _labels(value: object) -> dict[str, str]:
    """Return labels as the database has them, which may be anything."""
    found = value if isinstance(value, dict) else {}
    return {str(name): str(one) for name, one in sorted(found.items())}


def _halted(row: Row[Any]) -> Halted | None:
    if row.halted_at is None:
        return None
    return Halted(row.halted_at, row.halted_by or "", row.halted_reason or "")


def agent_jobs(connection: Connection) -> list[AgentJob]:
    """Return each job of each agent, in the order of the agents' names."""
    granted = exists().where(GRANT.c.agent == AGENT.c.name, GRANT.c.job_id == JOB.c.id)
    nothing = cast({}, JSONB)
    labelled = and_(JOB.c.selector != nothing, AGENT.c.labels.contains(JOB.c.selector))
    last = and_(REVISION.c.job_id == JOB.c.id, REVISION.c.sequence == JOB.c.sequence)
    reported = and_(REPORT.c.agent == AGENT.c.name, REPORT.c.job_id == JOB.c.id)
    columns = REPORT.c["status", "commit_sha", "sequence", "reported_at", "error_id"]
    query = (
        select(AGENT.c.name.label("agent"), JOB.c.name.label("job"), *columns, REPORT.c.error)
        .add_columns(REPORT.c.since, REVISION.c.commit_sha.label("published"))
        .add_columns(JOB.c.sequence.label("last_sequence"))
        .add_columns(REVISION.c.created_at.label("published_at"))
        .select_from(AGENT.join(JOB, or_(granted, labelled)))
        .join(REVISION, last, isouter=True)
        .join(REPORT, reported, isouter=True)
        .where(REPORT.c.status.is_distinct_from(NOT_LISTED))
        .order_by(AGENT.c.name, JOB.c.name)
    )
    return [_agent_job(row) for row in connection.execute(query)]


def _agent_job(row: Row[Any]) -> AgentJob:
    state = state_of(row.status, has_revision(row, row.published, row.last_sequence))
    since = row.published_at if state is AgentState.BEHIND else row.since
    facts = (row.commit_sha, row.reported_at, row.error_id, row.error)
    return AgentJob(row.agent, row.job, state, *facts, since)


def state_of(status: str | None, has_last: bool) -> AgentState:
    """Return how an agent is, by its last report and whether that is about the last revision."""
    if status is None:
        return AgentState.NEVER
    if status in ("failed", "refused"):
        return AgentState.FAILING
    if status in ("waiting", "skipped"):
        return AgentState.WAITING
    return AgentState.IN_SYNC if has_last else AgentState.BEHIND


def fleet_agents(connection: Connection) -> list[FleetAgent]:
    """Return every agent that was granted something or that was seen, in the order of the names."""
    jobs = defaultdict(list)
    for one in agent_jobs(connection):
        jobs[one.agent].append(one)
    rows = connection.execute(select(PRESENCE).order_by(PRESENCE.c.seen_at))
    seen = {row.agent: row for row in rows}  # the last one of each
    twins = _twins(connection)
    granted = connection.execute(select(AGENT.c.name, AGENT.c.labels))
    known = {row.name: _labels(row.labels) for row in granted}
    found = []
    for name in sorted(known.keys() | seen.keys()):
        row = seen.get(name)
        host, version, seen_at = (row.host, row.version, row.seen_at) if row else (None, None, None)
        hosts = tuple(twins.get(name, ()))
        labels = known.get(name, {})
        asked = _labels(row.labels) if row else {}
        more = {key: value for key, value in asked.items() if labels.get(key) != value}
        mine = tuple(jobs[name])
        found.append(FleetAgent(name, host, version, seen_at, hosts, mine, labels, more))
    return found


def _twins(connection: Connection) -> dict[str, list[str]]:
    """Return the hosts of each agent whose sessions overlapped lately."""
    one, other = PRESENCE.alias("one"), PRESENCE.alias("other")
    recently = NOW - TWIN_WINDOW
    query = (
        select(one.c.agent, one.c.host)
        .join(other, and_(one.c.agent == other.c.agent, one.c.session != other.c.session))
        .where(one.c.since < other.c.seen_at, other.c.since < one.c.seen_at)
        .where(one.c.seen_at > recently, other.c.seen_at > recently)
        .distinct()
        .order_by(one.c.agent, one.c.host)
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.agent, []).append(row.host)
    return found


__all__ = [
    "AgentJob",
    "AgentState",
    "Decision",
    "FleetAgent",
    "FleetJob",
    "FleetReading",
    "Halted",
    "RolloutState",
    "agent_jobs",
    "fleet_agents",
    "fleet_jobs",
    "read_fleet",
    "recent_decisions",
    "state_of",
]
