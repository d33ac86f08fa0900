"""Waves: a commit reaches some agents first, and the others only after those reported healthy.

`next_step` decides, from what the agents of the waves so far reported. Which agents come first is
the same for each commit: the order is that of a hash of job and agent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from syncd.apply_rules import Rollout

# halt_on -> ids of errors in reports
FAILURES = {
    "validate": ("hook/commit-rejected", "hook/validate-failed"),
    "hook": ("hook/on-change-failed", "hook/change-undone", "hook/undo-unfinished"),
    "health": ("hook/not-healthy",),
}


class WaveReport(Struct, frozen=True):
    """What an agent of a wave reported since the wave began."""

    agent: str
    status: str
    has_commit: bool  # whether its commit is the one that is rolled out
    finished: bool  # whether no reload and no health check is left
    drifted: int = 0
    error_id: str | None = None


class StepKind(StrEnum):
    """What happens next to a rollout."""

    WAIT = "wait"
    NEXT_WAVE = "next_wave"
    RELEASE = "release"
    STOP = "stop"


class Step(Struct, frozen=True):
    """The next step, and why."""

    kind: StepKind
    reason: str = ""


def in_order(job: str, agents: Iterable[str]) -> list[str]:
    """Return the agents in the order in which commits of the job reach them."""
    return sorted(agents, key=lambda agent: hashlib.sha256(f"{job}\0{agent}".encode()).digest())


def first_agents(share: float, job: str, agents: Sequence[str]) -> list[str]:
    """Return this share of the agents, one at least."""
    count = max(1, math.ceil(round(share * len(agents), 6)))
    return in_order(job, agents)[:count]


def next_step(
    rollout: Rollout,
    wave: int,
    seconds: float,
    members: Sequence[str],
    reports: Sequence[WaveReport],
) -> Step:
    """Return what follows `wave` (from 1), which began so many seconds ago."""
    for report in reports:
        reason = _harm(rollout, report)
        if reason is not None:
            return Step(StepKind.STOP, f"{report.agent}: {reason}")
    healthy = healthy_agents(reports)
    missing = [agent for agent in members if agent not in healthy]
    if missing:
        return Step(StepKind.WAIT, f"{len(missing)} of {len(members)} have not reported healthy")
    if seconds < rollout.pause_seconds:
        return Step(StepKind.WAIT, f"pause of {rollout.pause_seconds:g} s")
    return Step(StepKind.NEXT_WAVE if wave < len(rollout.shares) else StepKind.RELEASE)


def _harm(rollout: Rollout, report: WaveReport) -> str | None:
    """Return which of `halt_on` the report shows; None for none."""
    for name in rollout.halt_on:
        if name == "drift":
            if report.drifted and report.has_commit:
                return f"drift ({report.drifted} files)"
        elif report.error_id in FAILURES[name]:
            return f"{name} ({report.error_id})"
    return None


def healthy_agents(reports: Iterable[WaveReport]) -> set[str]:
    """Return the agents that have the commit, with every hook and health check done."""
    return {
        one.agent
        for one in reports
        if one.status in ("changed", "unchanged") and one.has_commit and one.finished
    }


__all__ = [
    "Step",
    "StepKind",
    "WaveReport",
    "first_agents",
    "healthy_agents",
    "in_order",
    "next_step",
]
