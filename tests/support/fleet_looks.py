"""What the fleet's page may have to show, one look of values for each. No database is behind it.

Text from outside (hosts, reasons, errors) holds markup in every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from syncd.fleet.overview import (
    AgentJob,
    AgentState,
    Decision,
    FleetAgent,
    FleetJob,
    FleetReading,
    Halted,
)
from syncd.fleet.waves import RolloutState
from syncd.status.fleet import AgentStats, ControllerStats, DatabaseState, FleetLook

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OLD, NEW = "9d2e11b" + "0" * 33, "4c0ffee" + "0" * 33
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
UP = DatabaseState(True, NOW - timedelta(days=3))
AWAY = DatabaseState(
    False,
    NOW - timedelta(minutes=14),
    "the fleet's database can't be used now: connection refused",
)
S = AgentState


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def reports(job: str, *states: AgentState, error: str | None = None) -> tuple[AgentJob, ...]:
    """The reports of web01, web02 and so on."""
    return tuple(
        AgentJob(
            f"web{number:02}",
            job,
            state,
            {S.IN_SYNC: NEW, S.NEVER: None}.get(state, OLD),
            None if state is S.NEVER else ago(seconds=40),
            "hook/commit-rejected" if state is S.FAILING else None,
            error if state is S.FAILING else None,
            ago(minutes=9),
        )
        for number, state in enumerate(states, 1)
    )


def job(name: str, agents: tuple[AgentJob, ...], **more: object) -> FleetJob:
    values: dict[str, object] = {
        "worker": None,
        "polled_at": ago(seconds=20),
        "next_at": NOW + timedelta(seconds=40),
        "failures": 0,
        "error_id": None,
        "error": None,
        **more,
    }
    facts = ("acme/infra", "main", NEW, 1764504000000, ago(minutes=10))
    return FleetJob(name, *facts, agents=agents, **values)  # type: ignore[arg-type]


def reading(*jobs: FleetJob, **decisions: tuple[Decision, ...]) -> FleetReading:
    names = sorted({one.agent for job in jobs for one in job.agents})
    agents = tuple(
        FleetAgent(
            name,
            f"{name}.example.com",
            "0.1.0",
            ago(seconds=40),
            (),
            tuple(one for job in jobs for one in job.agents if one.agent == name),
        )
        for name in names
    )
    return FleetReading(NOW, jobs, agents, decisions)


WELL = reading(
    job("nginx", reports("nginx", S.IN_SYNC, S.IN_SYNC, S.IN_SYNC)),
    job("sshd", reports("sshd", S.IN_SYNC, S.IN_SYNC)),
)
FAILED = f"validate failed for 4c0ffee (exit 1): syntax error in line 41 {MARKUP}"
STOPPED = "web01: validate (hook/commit-rejected)"
HALTED = reading(
    job(
        "nginx",
        reports("nginx", S.FAILING, S.BEHIND, S.BEHIND, error=FAILED),
        rollout=RolloutState(1, 3, ("web01",), (), None, STOPPED, ago(minutes=10)),
    ),
    job(
        "postgres",
        reports("postgres", S.IN_SYNC, S.BEHIND),
        halted=Halted(ago(hours=2), f"octocat@c1 {MARKUP}", "CHG 7: change freeze"),
    ),
    job(
        "haproxy",
        reports("haproxy", S.IN_SYNC, S.BEHIND, S.BEHIND),
        rollout=RolloutState(
            2,
            3,
            ("web01", "web02"),
            ("web01",),
            "1 of 2 have not reported healthy",
            None,
            ago(minutes=1),
        ),
    ),
    job("sshd", reports("sshd", S.IN_SYNC, S.IN_SYNC, S.NEVER)),
    nginx=(
        Decision(ago(minutes=9), "c1", "stop", f"4c0ffee {STOPPED}"),
        Decision(ago(days=1), "octocat@c1", "promote", "9d2e11b"),
    ),
    postgres=(Decision(ago(hours=2), "octocat@c1", "halt", "CHG 7: change freeze"),),
)
MANY = reading(
    job(
        "nginx",
        reports(
            "nginx",
            *(S.FAILING if number in (17, 230) else S.IN_SYNC for number in range(300)),
            error=FAILED,
        ),
    )
)
CONTROLLER = ControllerStats(2, {"published": 3, "unchanged": 940, "refused": 1})


@dataclass
class FixedFleet:
    """A fleet that is always as `found` says; without a reading where it is an agent's."""

    found: FleetLook
    has_overview: bool = True

    def look(self) -> FleetLook:
        return self.found


def fleet(found: FleetReading | None = WELL, database: DatabaseState = UP) -> FixedFleet:
    pages = {one.name: "https://github.com/acme/infra" for one in found.jobs} if found else {}
    return FixedFleet(FleetLook(NOW, database, found, CONTROLLER, None, pages))


def agent() -> FixedFleet:
    stats = AgentStats(12, {"nginx": ago(minutes=10), "sshd": None})
    return FixedFleet(FleetLook(NOW, UP, agent=stats), has_overview=False)


# the looks of the page, each with the sentence in its heading
FLEETS: dict[str, tuple[Callable[[], FixedFleet], str]] = {
    "well": (fleet, "All 2 jobs are in sync, all 3 agents are in sync"),
    "halted": (
        lambda: fleet(HALTED),
        "1 of 4 jobs has a stopped rollout, 1 is halted, 1 is in a rollout, 1 is under way, "
        "1 of 3 agents is failing",
    ),
    "away": (
        lambda: fleet(WELL, AWAY),
        "All 2 jobs are in sync, all 3 agents are in sync, but the fleet's database is away",
    ),
    "unknown": (
        lambda: fleet(None, AWAY),
        "The fleet is not known: its database does not answer",
    ),
    "empty": (lambda: fleet(reading()), "The fleet has no job yet"),
    "many": (lambda: fleet(MANY), "1 of 1 job is failing, 2 of 300 agents are failing"),
}

__all__ = ["AWAY", "FLEETS", "HALTED", "MANY", "NEW", "OLD", "WELL", "FixedFleet", "agent", "fleet"]
