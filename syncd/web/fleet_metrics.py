"""Metrics of a fleet: of the process, and on a controller of the whole fleet.

What is of the whole fleet is left out while the database is away: its last values would look new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from syncd.status.fleet import POLL_OUTCOMES, AgentStats, ControllerStats, FleetLook
from syncd.web.metric import Metric, Sample

if TYPE_CHECKING:  # it needs SQLAlchemy's dialect of PostgreSQL
    from syncd.fleet.overview import FleetJob, FleetReading

JOB = ("job",)
DATABASE_UP = Metric(
    "syncd_fleet_database_up",
    "gauge",
    "1 while the fleet's database answers this machine.",
)
DATABASE_SINCE = Metric(
    "syncd_fleet_database_since_timestamp_seconds",
    "gauge",
    "Since when the fleet's database answers, or does not.",
)
LEASES = Metric("syncd_fleet_leases", "gauge", "Jobs that this controller polls now.")
POLLS = Metric(
    "syncd_fleet_polls_total",
    "counter",
    "Polls of this controller since it started, by what came of them; refused are those whose job "
    "another controller had taken over.",
    ("outcome",),
)
POLL_FAILURES = Metric(
    "syncd_fleet_job_poll_failures",
    "gauge",
    "Polls of the job in a row that failed, of whichever controller.",
    JOB,
)
ROLLOUT = Metric(
    "syncd_fleet_job_rollout",
    "gauge",
    "1 for how the job's last commit is: released to all agents, in waves, stopped or halted.",
    ("job", "state"),
)
LAG = Metric(
    "syncd_fleet_job_lag_seconds",
    "gauge",
    "Since when the last commit is published and not on every agent that may have it; 0 where it "
    "is.",
    JOB,
)
OLDEST = Metric(
    "syncd_fleet_job_oldest_report_timestamp_seconds",
    "gauge",
    "When the agent of the job that has been silent for the longest last reported.",
    JOB,
)
AGENTS = Metric(
    "syncd_fleet_agents",
    "gauge",
    "Agents by their worst job.",
    ("state",),
)
TWINS = Metric(
    "syncd_fleet_agents_twin",
    "gauge",
    "Agents whose login two machines use.",
)
NOTICES = Metric(
    "syncd_fleet_notices_total",
    "counter",
    "Notices of the database that this agent has heard since it started.",
)
BEHIND = Metric(
    "syncd_fleet_job_behind_seconds",
    "gauge",
    "Since when the last commit that this agent knows of is published and not applied; 0 where it "
    "is.",
    JOB,
)
ROLLOUT_STATES = ("released", "waves", "stopped", "halted")
FLEET_METRICS = (
    DATABASE_UP,
    DATABASE_SINCE,
    LEASES,
    POLLS,
    POLL_FAILURES,
    ROLLOUT,
    LAG,
    OLDEST,
    AGENTS,
    TWINS,
    NOTICES,
    BEHIND,
)


def of_fleet(look: FleetLook) -> Iterator[tuple[Metric, list[Sample]]]:
    """Yield each metric with its samples, in a fixed order."""
    database = look.database
    if database.up is not None and database.since is not None:
        yield DATABASE_UP, [((), database.up)]
        yield DATABASE_SINCE, [((), database.since.timestamp())]
    if look.controller is not None:
        yield from _of_controller(look.controller)
    if look.reading is not None and database.up:
        yield from _of_reading(look.reading)
    if look.agent is not None:
        yield from _of_agent(look, look.agent)


def _of_controller(stats: ControllerStats) -> Iterator[tuple[Metric, list[Sample]]]:
    yield LEASES, [((), stats.leases)]
    yield POLLS, [((outcome,), stats.polls.get(outcome, 0)) for outcome in POLL_OUTCOMES]


def _of_reading(reading: FleetReading) -> Iterator[tuple[Metric, list[Sample]]]:
    from syncd.fleet.condition import AGENT_STATES, agent_state, lag_seconds

    named = [((job.name,), job) for job in reading.jobs]
    yield POLL_FAILURES, [(name, job.failures) for name, job in named]
    rollouts: list[Sample] = []
    for job in reading.jobs:
        rollouts += [((job.name, one), _rollout(job) == one) for one in ROLLOUT_STATES]
    yield ROLLOUT, rollouts
    yield LAG, [(name, lag_seconds(job, reading.at)) for name, job in named]
    yield OLDEST, [(name, at) for name, job in named if (at := _oldest(job)) is not None]
    by_name: Mapping[str, FleetJob] = {job.name: job for job in reading.jobs}
    counted = Counter(agent_state(one, by_name) for one in reading.agents)
    yield AGENTS, [((state.value,), counted[state]) for state in AGENT_STATES]
    yield TWINS, [((), sum(bool(one.twins) for one in reading.agents))]


def _rollout(job: FleetJob) -> str:
    """Return which of `ROLLOUT_STATES` a job is in."""
    if job.halted is not None:
        return "halted"
    if job.rollout is None:
        return "released"
    return "waves" if job.rollout.stopped is None else "stopped"


def _oldest(job: FleetJob) -> float | None:
    reported = [one.reported_at.timestamp() for one in job.agents if one.reported_at is not None]
    return min(reported, default=None)


def _of_agent(look: FleetLook, stats: AgentStats) -> Iterator[tuple[Metric, list[Sample]]]:
    yield NOTICES, [((), stats.notices)]
    behind: list[Sample] = []
    for name, since in stats.behind_since.items():
        behind.append(((name,), 0.0 if since is None else (look.at - since).total_seconds()))
    yield BEHIND, behind


__all__ = ["FLEET_METRICS", "ROLLOUT_STATES", "of_fleet"]
