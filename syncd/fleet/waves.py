"""Statements over rollouts: the first wave of a revision, the next ones, and what operators decide.

Every decision is recorded with who made it and when.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, convert, to_builtins
from sqlalchemy import Connection, Row, and_, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from syncd.apply_rules import Rollout
from syncd.errors import ConfigError
from syncd.fleet.leases import NOW, make_due
from syncd.fleet.reports import NOT_LISTED
from syncd.fleet.rollout import (
    Step,
    StepKind,
    WaveReport,
    first_agents,
    healthy_agents,
    next_step,
)
from syncd.fleet.schema import AGENT, CHANNEL, DECISION, GRANT, JOB, REPORT, REVISION, WAVE_AGENT
from syncd.text import did_you_mean


def granted_agents(connection: Connection, job_id: int) -> list[str]:
    """Return the agents that may read a job, by a grant or by labels, and mirror it."""
    granted = exists().where(GRANT.c.agent == AGENT.c.name, GRANT.c.job_id == job_id)
    labelled = exists().where(
        JOB.c.id == job_id,
        func.jsonb_typeof(JOB.c.selector) == "object",
        JOB.c.selector != func.jsonb_build_object(),
        AGENT.c.labels.contains(JOB.c.selector),
    )
    elsewhere = exists().where(
        REPORT.c.agent == AGENT.c.name, REPORT.c.job_id == job_id, REPORT.c.status == NOT_LISTED
    )
    query = select(AGENT.c.name).where(or_(granted, labelled), ~elsewhere)
    return list(connection.execute(query).scalars())


def begin(connection: Connection, job_id: int, revision_id: int, rollout: Rollout) -> None:
    """Offer a new revision to its first wave alone."""
    job = connection.execute(select(JOB.c.name).where(JOB.c.id == job_id)).scalar_one()
    values = {"rollout": to_builtins(rollout), "released_at": None, "wave": 1, "wave_at": NOW}
    connection.execute(update(REVISION).where(REVISION.c.id == revision_id).values(values))
    agents = first_agents(rollout.shares[0], job, granted_agents(connection, job_id))
    _offer(connection, revision_id, 1, agents)


def _offer(connection: Connection, revision_id: int, wave: int, agents: Iterable[str]) -> None:
    for agent in agents:
        row = {"revision_id": revision_id, "agent": agent, "wave": wave}
        connection.execute(upsert(WAVE_AGENT).values(row).on_conflict_do_nothing())


def advance(connection: Connection, worker: str) -> list[tuple[str, Step]]:
    """Take the next step of each rollout that is due for one; return job -> step.

    Rollouts that another controller looks at are left to it.
    """
    running = (
        select(REVISION, JOB.c.name, (NOW - REVISION.c.wave_at).label("since"))
        .join(JOB)
        .where(REVISION.c.released_at.is_(None), REVISION.c.rollout.is_not(None))
        .where(REVISION.c.sequence == JOB.c.sequence, REVISION.c.stopped.is_(None))
        .where(JOB.c.halted_at.is_(None))
        .with_for_update(of=REVISION, skip_locked=True)
    )
    done = []
    for row in list(connection.execute(running)):
        step = _step(connection, row)
        if step.kind is not StepKind.WAIT:
            _take(connection, row, step, worker)
            done.append((row.name, step))
    return done


def _step(connection: Connection, row: Row[Any]) -> Step:
    members, reports = _wave(connection, row)
    rollout = convert(row.rollout, Rollout)
    return next_step(rollout, row.wave, row.since.total_seconds(), members, reports)


def _wave(connection: Connection, row: Row[Any]) -> tuple[list[str], list[WaveReport]]:
    """Return the agents of a revision's waves, and what they reported since the last one began."""
    query = select(WAVE_AGENT.c.agent).where(WAVE_AGENT.c.revision_id == row.id)
    offered = list(connection.execute(query).scalars())
    chosen = set(granted_agents(connection, row.job_id))  # the others lost the job meanwhile
    members = [one for one in offered if one in chosen] or offered  # never a wave of none
    since = and_(REPORT.c.job_id == row.job_id, REPORT.c.reported_at >= row.wave_at)
    reported = select(REPORT).where(since, REPORT.c.agent.in_(members))
    reports = [
        WaveReport(
            one.agent,
            one.status,
            has_revision(one, row.commit_sha, row.sequence),
            not (one.reload_pending or one.checking),
            one.drifted,
            one.error_id,
        )
        for one in connection.execute(reported)
    ]
    return members, reports


def has_revision(report: Row[Any], commit: str | None, sequence: int) -> bool:
    """Return whether a report is about this commit, in the listing of this revision.

    Agents of an older version do not say which listing they have.
    """
    return report.commit_sha == commit and (report.sequence or sequence) >= sequence


class RolloutState(Struct, frozen=True):
    """How far a rollout is: the wave of how many, and the agents of the waves so far.

    `waits_for` is what has to come before the next wave, `stopped` why none follows by itself.
    """

    wave: int
    waves: int
    agents: tuple[str, ...]
    healthy: tuple[str, ...]
    waits_for: str | None
    stopped: str | None
    began_at: datetime


def rollouts(connection: Connection) -> dict[str, RolloutState]:
    """Return job -> how far its rollout is, for each whose last revision has not reached all."""
    unfinished = (
        select(REVISION, JOB.c.name, (NOW - REVISION.c.wave_at).label("since"))
        .join(JOB)
        .where(REVISION.c.released_at.is_(None), REVISION.c.rollout.is_not(None))
        .where(REVISION.c.sequence == JOB.c.sequence)
    )
    return {row.name: _state(connection, row) for row in list(connection.execute(unfinished))}


def _state(connection: Connection, row: Row[Any]) -> RolloutState:
    members, reports = _wave(connection, row)
    rollout = convert(row.rollout, Rollout)
    step = next_step(rollout, row.wave, row.since.total_seconds(), members, reports)
    healthy = healthy_agents(reports)
    return RolloutState(
        row.wave,
        len(rollout.shares) + 1,  # those of the shares, and all others
        tuple(sorted(members)),
        tuple(sorted(healthy)),
        step.reason if step.kind is StepKind.WAIT else None,
        row.stopped,
        row.wave_at,
    )


def _take(connection: Connection, row: Row[Any], step: Step, worker: str) -> None:
    is_it = REVISION.c.id == row.id
    commit, detail = row.commit_sha[:7], step.reason
    if step.kind is StepKind.STOP:
        connection.execute(update(REVISION).where(is_it).values(stopped=step.reason))
    elif step.kind is StepKind.RELEASE:
        connection.execute(update(REVISION).where(is_it).values(released_at=NOW))
    else:
        shares = convert(row.rollout, Rollout).shares
        agents = first_agents(shares[row.wave], row.name, granted_agents(connection, row.job_id))
        _offer(connection, row.id, row.wave + 1, agents)
        values = {"wave": row.wave + 1, "wave_at": NOW}
        connection.execute(update(REVISION).where(is_it).values(values))
        detail = f"wave {row.wave + 1}: {len(agents)} agents"
    decide(connection, worker, row.job_id, step.kind.value, f"{commit} {detail}".rstrip())
    if step.kind is not StepKind.STOP:
        notify(connection, row.name)


# --- operators ------------------------------------------------------------------------------------


def halt(connection: Connection, job: str, who: str, reason: str) -> None:
    """Publish and release nothing more of the job. Raises ConfigError for an unknown job."""
    row = job_row(connection, job)
    values = {"halted_at": NOW, "halted_by": who, "halted_reason": reason}
    connection.execute(update(JOB).where(JOB.c.id == row.id).values(values))
    decide(connection, who, row.id, "halt", reason)


def resume(connection: Connection, job: str, who: str) -> None:
    """Go on with a halted job, and with a rollout that stopped by itself."""
    row = job_row(connection, job)
    values = {"halted_at": None, "halted_by": None, "halted_reason": None}
    connection.execute(update(JOB).where(JOB.c.id == row.id).values(values))
    is_it = and_(REVISION.c.job_id == row.id, REVISION.c.sequence == row.sequence)
    going = {"stopped": None, "wave_at": NOW}
    connection.execute(update(REVISION).where(is_it).values(going))
    make_due(connection, [job])
    decide(connection, who, row.id, "resume", "")


def promote(connection: Connection, job: str, who: str) -> str:
    """Release the job's last revision to every agent now; return its commit.

    Raises ConfigError where there is none that waits.
    """
    row = job_row(connection, job)
    is_it = and_(REVISION.c.job_id == row.id, REVISION.c.sequence == row.sequence)
    waits = REVISION.c.released_at.is_(None)
    released = update(REVISION).where(is_it, waits).values(released_at=NOW, stopped=None)
    commit = connection.execute(released.returning(REVISION.c.commit_sha)).scalar_one_or_none()
    if commit is None:
        raise ConfigError(
            f"{job}: every agent may have the last commit already",
            id="config/fleet-nothing-to-promote",
            hint="`syncd fleet status` shows which agents have it",
        )
    decide(connection, who, row.id, "promote", commit[:7])
    notify(connection, job)
    return str(commit)


def job_row(connection: Connection, job: str) -> Row[Any]:
    """Return a job's row, locked. Raises ConfigError for a job that no controller has."""
    row = connection.execute(select(JOB).where(JOB.c.name == job).with_for_update()).first()
    if row is not None:
        return row
    known = list(connection.execute(select(JOB.c.name)).scalars())
    raise ConfigError(
        f"the fleet has no job '{job}'" + did_you_mean(job, known),
        id="config/fleet-job",
        hint="a controller makes it known when it runs; see `syncd fleet status`",
    )


def decide(connection: Connection, who: str, job_id: int | None, action: str, detail: str) -> None:
    """Record a decision."""
    name = select(JOB.c.name).where(JOB.c.id == job_id).scalar_subquery()
    row = {"who": who, "job_id": job_id, "job": name, "action": action, "detail": detail}
    connection.execute(insert(DECISION).values(row))


def notify(connection: Connection, job: str) -> None:
    """Tell the agents that they may have a new revision of the job."""
    connection.execute(select(func.pg_notify(CHANNEL, job)))


__all__ = [
    "RolloutState",
    "advance",
    "begin",
    "decide",
    "granted_agents",
    "halt",
    "has_revision",
    "job_row",
    "notify",
    "promote",
    "resume",
    "rollouts",
]
