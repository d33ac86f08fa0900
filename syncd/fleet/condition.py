"""How each agent and job of a fleet is, in one word. The worst word comes first.

Pure: it judges a reading of `syncd.fleet.overview`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from syncd.fleet.overview import AgentJob, AgentState, FleetAgent, FleetJob

AGENT_STATES = tuple(
    AgentState(word) for word in ("failing", "behind", "never", "waiting", "in_sync")
)


class JobCondition(StrEnum):
    """How a job of the fleet is, the worst first."""

    STOPPED = "stopped"  # its rollout, by itself
    FAILING = "failing"  # its poll, or an agent
    HALTED = "halted"
    ROLLOUT = "rollout"  # in waves
    NEVER = "never"  # not published yet
    BEHIND = "behind"  # an agent does not have it yet
    IN_SYNC = "in_sync"


def state_in(job: FleetJob | None, one: AgentJob) -> AgentState:
    """Return how an agent is with a job: one that waits for its wave is not behind."""
    rollout = None if job is None else job.rollout
    is_later = rollout is not None and one.agent not in rollout.agents
    return AgentState.WAITING if is_later and one.state is AgentState.BEHIND else one.state


def agent_state(agent: FleetAgent, jobs: Mapping[str, FleetJob]) -> AgentState:
    """Return how an agent is: as its worst job. Two machines of one name are failing."""
    if agent.twins:
        return AgentState.FAILING
    if agent.seen_at is None:
        return AgentState.NEVER
    states = {state_in(jobs.get(one.job), one) for one in agent.jobs}
    return next((state for state in AGENT_STATES if state in states), AgentState.IN_SYNC)


def job_condition(job: FleetJob) -> JobCondition:
    """Return how a job is."""
    states = {state_in(job, one) for one in job.agents}
    is_stopped = job.rollout is not None and job.rollout.stopped is not None
    found = {
        JobCondition.STOPPED: is_stopped,
        JobCondition.FAILING: job.error is not None or AgentState.FAILING in states,
        JobCondition.HALTED: job.halted is not None,
        JobCondition.ROLLOUT: job.rollout is not None,
        JobCondition.NEVER: job.commit is None,
        JobCondition.BEHIND: bool(states & {AgentState.BEHIND, AgentState.NEVER}),
    }
    return next((word for word, is_so in found.items() if is_so), JobCondition.IN_SYNC)


def lag_seconds(job: FleetJob, at: datetime) -> float:
    """Return since when the last commit is published and not on every agent that may have it.

    It is 0 where each has it, or waits by its own rules.
    """
    missing = {AgentState.FAILING, AgentState.BEHIND, AgentState.NEVER}
    if job.published_at is None or not any(
        state_in(job, one) in missing and one.commit != job.commit for one in job.agents
    ):
        return 0.0
    return max(0.0, (at - job.published_at).total_seconds())


__all__ = [
    "AGENT_STATES",
    "JobCondition",
    "agent_state",
    "job_condition",
    "lag_seconds",
    "state_in",
]
