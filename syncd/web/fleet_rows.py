"""Jobs and agents of the fleet as rows of its page: how each is, since when, why, and what to type.

Pure: no I/O. Only a machine of a fleet loads it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from syncd.fleet.condition import AGENT_STATES, JobCondition, state_in
from syncd.fleet.overview import (
    AgentJob,
    AgentState,
    Decision,
    FleetAgent,
    FleetJob,
    FleetReading,
)
from syncd.status import ago, duration, rfc3339
from syncd.web.status_page import MAX_NAME_CHARACTERS, MAX_TEXT_CHARACTERS, Remedy, When, cut

# the class that its colour has, the sign, the word
AGENT_LOOKS = {
    AgentState.FAILING: ("failing", "✕", "failing"),
    AgentState.BEHIND: ("drift", "!", "behind"),
    AgentState.NEVER: ("never", "·", "no report yet"),
    AgentState.WAITING: ("waiting", "◷", "waiting"),
    AgentState.IN_SYNC: ("in_sync", "✓", "in sync"),
}
JOB_LOOKS = {
    JobCondition.STOPPED: ("failing", "✕", "stopped"),
    JobCondition.FAILING: ("failing", "✕", "failing"),
    JobCondition.HALTED: ("paused", "‖", "halted"),
    JobCondition.ROLLOUT: ("checking", "…", "in waves"),
    JobCondition.NEVER: ("never", "·", "not published"),
    JobCondition.BEHIND: ("waiting", "◷", "under way"),
    JobCondition.IN_SYNC: ("in_sync", "✓", "in sync"),
}
MAX_NAMES = 3  # of agents in one sentence
MAX_JOBS = 5  # of one agent, with their reasons


class JobRow(Struct, frozen=True):
    """One job of the fleet in the table. `wave` says how far its rollout is."""

    name: str
    word: str
    sign: str
    shown: str
    since: When
    repo: str
    ref: str
    repo_url: str | None
    commit: str | None
    commit_url: str | None
    published: When
    in_sync: str
    next_poll: When
    wave: str
    reasons: tuple[str, ...]
    remedy: Remedy | None
    commands: tuple[str, ...]
    decisions: tuple[tuple[When, str], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the texts that a search looks at."""
        return (self.name, self.repo, self.ref, self.commit or "", self.wave, *self.reasons)


class AgentRow(Struct, frozen=True):
    """One agent in the table."""

    name: str
    word: str
    sign: str
    shown: str
    since: When
    host: str
    version: str
    seen: When
    in_sync: str
    jobs: tuple[str, ...]
    reasons: tuple[str, ...]
    remedy: Remedy | None

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the texts that a search looks at."""
        return (self.name, self.host, self.version, *self.jobs, *self.reasons)


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun: `1 agent`, `3 agents`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


# --- jobs -----------------------------------------------------------------------------------------


def job_row(
    job: FleetJob, condition: JobCondition, reading: FleetReading, page: str | None
) -> JobRow:
    """Return one job as the table shows it. `page` is the address of its repository."""
    word, sign, shown = JOB_LOOKS[condition]
    now = reading.at
    good = sum(one.state is AgentState.IN_SYNC for one in job.agents)
    return JobRow(
        job.name,
        word,
        sign,
        shown,
        _since(_job_since(job, condition, reading), now),
        job.repo,
        job.ref or "HEAD",
        page,
        job.commit,
        None if page is None or job.commit is None else f"{page}/commit/{job.commit}",
        When(ago(job.published_at, now), rfc3339(job.published_at)),
        f"{good:,} of {len(job.agents):,}",
        _next_poll(job, now),
        _wave(job),
        tuple(cut(one, MAX_TEXT_CHARACTERS) for one in _job_reasons(job, reading)),
        _job_remedy(job, condition),
        _commands(job, condition),
        tuple(
            (When(ago(one.at, now), rfc3339(one.at)), _said(one))
            for one in reading.decisions.get(job.name, ())
        ),
    )


def _said(decision: Decision) -> str:
    """Return what was decided and by whom: `next wave by c1: 4c0ffee wave 2: 3 agents`."""
    detail = cut(decision.detail, MAX_NAME_CHARACTERS)
    said = f"{decision.action.replace('_', ' ')} by {cut(decision.who, MAX_NAME_CHARACTERS)}"
    return f"{said}: {detail}" if detail else said


def _since(moment: datetime | None, now: datetime) -> When:
    if moment is None:
        return When("", None)
    return When(f"for {duration((now - moment).total_seconds())}", rfc3339(moment))


def _job_since(job: FleetJob, condition: JobCondition, reading: FleetReading) -> datetime | None:
    """Return when a job began to be as it is; None where nothing says so."""
    if condition is JobCondition.HALTED and job.halted is not None:
        return job.halted.at
    if condition is JobCondition.STOPPED:
        stops = (one.at for one in reading.decisions.get(job.name, ()) if one.action == "stop")
        return next(stops, None)
    if condition is JobCondition.ROLLOUT and job.rollout is not None:
        return job.rollout.began_at
    if condition is JobCondition.FAILING and job.error is None:
        failing = (one.since for one in job.agents if one.state is AgentState.FAILING)
        return min((at for at in failing if at is not None), default=None)
    return job.published_at if condition is JobCondition.BEHIND else None


def _next_poll(job: FleetJob, now: datetime) -> When:
    if job.halted is not None:
        return When("when resumed", None)
    if job.worker is not None:
        return When(f"now, by {cut(job.worker, MAX_NAME_CHARACTERS)}", None)
    seconds = (job.next_at - now).total_seconds()
    return When(f"in {duration(seconds)}" if seconds > 0 else "now", rfc3339(job.next_at))


def _wave(job: FleetJob) -> str:
    """Return how far the rollout is: the wave, its healthy agents, and what it waits for."""
    rollout = job.rollout
    if rollout is None:
        return ""
    healthy, agents = len(rollout.healthy), len(rollout.agents)
    said = (
        f"Wave {rollout.wave} of {rollout.waves}: {healthy} of {number_of(agents, 'agent')} healthy"
    )
    if rollout.stopped is not None or job.halted is not None:
        return f"{said}; no further wave begins"
    missing = [one for one in rollout.agents if one not in rollout.healthy]
    if missing:
        return f"{said}; waits for {_names(missing)}"
    return f"{said}; waits for: {rollout.waits_for}" if rollout.waits_for else f"{said}; goes on"


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _job_reasons(job: FleetJob, reading: FleetReading) -> Iterator[str]:
    if job.rollout is not None and job.rollout.stopped is not None:
        stops = (one for one in reading.decisions.get(job.name, ()) if one.action == "stop")
        by = next((f" (by {one.who})" for one in stops), "")
        yield f"the rollout stopped: {job.rollout.stopped}{by}"
    if job.halted is not None:
        reason = f": {job.halted.reason}" if job.halted.reason else ""
        yield f"halted by {job.halted.by}{reason}"
    if job.error is not None:
        times = "1 poll" if job.failures == 1 else f"{job.failures} polls in a row"
        yield f"{times} failed: {job.error}"
    failing = [one.agent for one in job.agents if one.state is AgentState.FAILING]
    if failing:
        yield f"failing on {_names(failing)}"


def _job_remedy(job: FleetJob, condition: JobCondition) -> Remedy | None:
    name = shlex.quote(job.name)
    if condition is JobCondition.STOPPED:
        return Remedy(
            "push a fix, which has a rollout of its own; or, where the commit is good: ",
            f"syncd fleet resume {name}",
        )
    if condition is JobCondition.HALTED:
        return Remedy("when it may go on: ", f"syncd fleet resume {name}")
    if job.error is not None:
        return Remedy("on a controller: ", "syncd doctor")
    if condition is JobCondition.FAILING:
        return Remedy("look at these agents below, or go back: ", f"syncd fleet rollback {name}")
    if condition is JobCondition.NEVER:
        return Remedy("start a controller that has the job: ", "syncd run")
    if not job.agents:
        return Remedy("no agent has it: ", f"syncd fleet grant AGENT {name}")
    return None


def _commands(job: FleetJob, condition: JobCondition) -> tuple[str, ...]:
    """Return the commands that apply to the job."""
    actions = []
    if job.rollout is not None:
        actions.append("promote")
    if job.halted is not None or condition is JobCondition.STOPPED:
        actions.append("resume")
    if job.halted is None:
        actions.append("halt")
    if job.commit is not None:
        actions.append("rollback")
    return tuple(f"syncd fleet {action} {shlex.quote(job.name)}" for action in actions)


# --- agents ---------------------------------------------------------------------------------------


def agent_row(
    agent: FleetAgent, state: AgentState, jobs: Mapping[str, FleetJob], now: datetime
) -> AgentRow:
    """Return one agent as the table shows it."""
    word, sign, shown = AGENT_LOOKS[state]
    states = [(state_in(jobs.get(one.job), one), one) for one in agent.jobs]
    worst = [one for found, one in states if found is state]
    since = min((one.since for one in worst if one.since is not None), default=None)
    good = sum(found is AgentState.IN_SYNC for found, _ in states)
    return AgentRow(
        agent.name,
        word,
        sign,
        "two machines" if agent.twins else shown,
        _since(None if agent.twins else since, now),
        agent.host or "–",
        agent.version or "–",
        When(ago(agent.seen_at, now), rfc3339(agent.seen_at)),
        f"{good} of {len(states)}",
        tuple(one.job for one in agent.jobs),
        tuple(cut(one, MAX_TEXT_CHARACTERS) for one in _agent_reasons(agent, states, jobs)),
        _agent_remedy(agent, state, worst),
    )


def _agent_reasons(
    agent: FleetAgent,
    states: Sequence[tuple[AgentState, AgentJob]],
    jobs: Mapping[str, FleetJob],
) -> Iterator[str]:
    if agent.twins:
        yield f"two machines use this name: {_names(agent.twins)}"
    odd = [one for one in states if one[0] not in (AgentState.IN_SYNC, AgentState.NEVER)]
    odd.sort(key=lambda one: AGENT_STATES.index(one[0]))
    for state, one in odd[:MAX_JOBS]:
        yield f"{one.job}: {_how(state, one, jobs.get(one.job))}"
    if len(odd) > MAX_JOBS:
        yield f"and {number_of(len(odd) - MAX_JOBS, 'more job')}"


def _how(state: AgentState, one: AgentJob, job: FleetJob | None) -> str:
    """Return in words how an agent is with a job that is not in sync."""
    if state is AgentState.FAILING:
        return one.error or "failing"
    if state is AgentState.WAITING and one.state is AgentState.BEHIND:
        return "waits for its wave"
    if state is AgentState.WAITING:
        return "waits: paused, held, or outside its windows"
    has, wanted = (one.commit or "nothing")[:7], ((job and job.commit) or "")[:7]
    return f"has {has}, and {wanted} is published"


def _agent_remedy(agent: FleetAgent, state: AgentState, worst: Sequence[AgentJob]) -> Remedy | None:
    place = f"on {cut(agent.host, MAX_NAME_CHARACTERS)}: " if agent.host else "on that machine: "
    if agent.twins:
        return Remedy("give one of them a login of its own (docs/fleet.md)")
    if state is AgentState.NEVER:
        return Remedy(place, "syncd doctor")
    if state in (AgentState.FAILING, AgentState.BEHIND) and worst:
        return Remedy(place, f"syncd status {shlex.quote(worst[0].job)}")
    return None


__all__ = ["AGENT_LOOKS", "AgentRow", "JobRow", "agent_row", "job_row", "number_of"]
