"""The fleet's page as values: one sentence on top, then the jobs and the agents, the worst first.

Pure: no I/O. Only a machine of a fleet loads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from syncd.fleet.condition import AGENT_STATES, JobCondition, agent_state, job_condition
from syncd.fleet.overview import AgentState, FleetReading
from syncd.status import duration, rfc3339
from syncd.status.fleet import FleetLook
from syncd.web.fleet_rows import AGENT_LOOKS, AgentRow, JobRow, agent_row, job_row, number_of
from syncd.web.status_page import MAX_ROWS, MAX_TEXT_CHARACTERS, Choice, Filter, Tile, cut

PHRASES = {
    JobCondition.STOPPED: ("has a stopped rollout", "have a stopped rollout"),
    JobCondition.FAILING: ("is failing", "are failing"),
    JobCondition.HALTED: ("is halted", "are halted"),
    JobCondition.ROLLOUT: ("is in a rollout", "are in a rollout"),
    JobCondition.NEVER: ("is not published yet", "are not published yet"),
    JobCondition.BEHIND: ("is under way", "are under way"),
}
BAD_JOBS = (JobCondition.STOPPED, JobCondition.FAILING)


class View(Struct, frozen=True):
    """Everything that the template shows. `away` says since when the database does not answer."""

    title: str
    good: bool
    at: str
    away: str | None
    known: bool
    tiles: tuple[Tile, ...]
    chosen: Filter
    choices: tuple[Choice, ...]
    jobs: tuple[JobRow, ...]
    agents: tuple[AgentRow, ...]
    found: int
    total: int
    hidden_jobs: int
    hidden_agents: int


def view(look: FleetLook, chosen: Filter) -> View:
    """Return the page of what is known."""
    reading = look.reading or FleetReading(look.at, (), ())
    by_name = {job.name: job for job in reading.jobs}
    states = {one.name: agent_state(one, by_name) for one in reading.agents}
    conditions = {job.name: job_condition(job) for job in reading.jobs}
    counted = Counter(states.values())
    order = tuple(JobCondition)
    worst_jobs = sorted(reading.jobs, key=lambda one: order.index(conditions[one.name]))
    jobs = [
        job_row(one, conditions[one.name], reading, look.pages.get(one.name)) for one in worst_jobs
    ]
    worst_agents = sorted(reading.agents, key=lambda one: AGENT_STATES.index(states[one.name]))
    in_state = [one for one in worst_agents if chosen.state in ("", states[one.name])]
    agents = [agent_row(one, states[one.name], by_name, reading.at) for one in in_state]
    jobs = [row for row in jobs if _has_text(row.texts, chosen.text)]
    agents = [row for row in agents if _has_text(row.texts, chosen.text)]
    most = len(jobs) + len(agents) if chosen.all else MAX_ROWS
    is_well = look.database.up is True
    return View(
        _title(look, summary(conditions.values(), counted)),
        is_well and not counted[AgentState.FAILING] and not _bad(conditions.values()),
        rfc3339(reading.at) or "",
        None if is_well else _away(look),
        look.reading is not None,
        tiles(reading, counted),
        chosen,
        tuple(
            Choice(one, AGENT_LOOKS[one][2], counted[one]) for one in AGENT_STATES if counted[one]
        ),
        tuple(jobs[:most]),
        tuple(agents[:most]),
        len(agents),
        len(reading.agents),
        max(0, len(jobs) - most),
        max(0, len(agents) - most),
    )


def _bad(conditions: Iterable[JobCondition]) -> bool:
    return any(one in BAD_JOBS for one in conditions)


def _has_text(texts: Iterable[str], text: str) -> bool:
    wanted = text.casefold()
    return not wanted or any(wanted in one.casefold() for one in texts)


def _title(look: FleetLook, said: str) -> str:
    if look.reading is None:
        return "The fleet is not known: its database does not answer"
    return said if look.database.up else f"{said}, but the fleet's database is away"


def _away(look: FleetLook) -> str:
    """Return that the database does not answer, since when and why."""
    state = look.database
    if state.up is None or state.since is None:
        return "The fleet's database has not answered yet."
    length = duration((look.at - state.since).total_seconds())
    error = cut(state.error or "", MAX_TEXT_CHARACTERS)
    return f"The fleet's database is away since {rfc3339(state.since)} ({length}): {error}"


# --- the sentence and the tiles -------------------------------------------------------------------


def summary(conditions: Iterable[JobCondition], agents: Counter[AgentState]) -> str:
    """Return one sentence, the worst first: `1 of 2 jobs is halted, 1 of 3 agents is failing`."""
    jobs = Counter(conditions)
    if not jobs:
        return "The fleet has no job yet"
    said = _of_jobs(jobs)
    total, failing = agents.total(), agents[AgentState.FAILING]
    if not total:
        return f"{said}, and the fleet has no agent yet"
    if failing:
        verb = "is" if failing == 1 else "are"
        return f"{said}, {failing} of {number_of(total, 'agent')} {verb} failing"
    good = agents[AgentState.IN_SYNC]
    is_all = good == total
    rest = f"all {number_of(total, 'agent')} are in sync" if total > 1 else "the agent is in sync"
    return f"{said}, " + (rest if is_all else f"{good} of {number_of(total, 'agent')} in sync")


def _of_jobs(counted: Counter[JobCondition]) -> str:
    total = counted.total()
    odd = [one for one in PHRASES if counted[one]]
    if not odd:
        return "The job is in sync" if total == 1 else f"All {total} jobs are in sync"
    said = [f"{counted[one]} {PHRASES[one][counted[one] > 1]}" for one in odd]
    said[0] = said[0].replace(" ", f" of {number_of(total, 'job')} ", 1)
    return ", ".join(said)


def tiles(reading: FleetReading, agents: Counter[AgentState]) -> tuple[Tile, ...]:
    """Return the figures above the jobs."""
    failing, behind = agents[AgentState.FAILING], agents[AgentState.BEHIND]
    waves = sum(job.rollout is not None for job in reading.jobs)
    halted = sum(job.halted is not None for job in reading.jobs)
    reports = [
        (one.reported_at, one.agent)
        for job in reading.jobs
        for one in job.agents
        if one.reported_at is not None
    ]
    oldest = min(reports, default=None)
    length = "–" if oldest is None else duration((reading.at - oldest[0]).total_seconds())
    good = f"{agents[AgentState.IN_SYNC]:,} of {agents.total():,}"
    return (
        Tile("Agents in sync", good, "", "in_sync"),
        Tile("Failing agents", f"{failing:,}", "", "failing" if failing else ""),
        Tile("Agents behind", f"{behind:,}", "", "drift" if behind else ""),
        Tile("Open rollouts", str(waves)),
        Tile("Halted jobs", str(halted), "", "drift" if halted else ""),
        Tile("Oldest report", length, "" if oldest is None else oldest[1]),
    )


def shortened(whole: View) -> View:
    """Return the page with the better half of the jobs and agents left out."""
    jobs, agents = whole.jobs[: len(whole.jobs) // 2], whole.agents[: len(whole.agents) // 2]
    return replace(
        whole,
        jobs=jobs,
        agents=agents,
        hidden_jobs=whole.hidden_jobs + len(whole.jobs) - len(jobs),
        hidden_agents=whole.hidden_agents + len(whole.agents) - len(agents),
    )


__all__ = ["View", "shortened", "summary", "tiles", "view"]
