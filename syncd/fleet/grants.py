"""Which agents get which jobs: by name, or by labels that an operator gave the agent."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, and_, column, delete, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import insert

from syncd.errors import ConfigError
from syncd.fleet.schema import AGENT, AGENTS, GRANT, JOB
from syncd.text import did_you_mean

ROLES = table("pg_roles", column("rolname"), column("rolcanlogin"), schema="pg_catalog")


def grant(connection: Connection, agent: str, jobs: Iterable[str]) -> None:
    """Let the agent read these jobs. Raises ConfigError for a job that no controller has."""
    ids = _ids(connection, jobs)
    connection.execute(insert(AGENT).values(name=agent).on_conflict_do_nothing())
    for job_id in ids:
        row = {"agent": agent, "job_id": job_id}
        connection.execute(insert(GRANT).values(row).on_conflict_do_nothing())


def revoke(connection: Connection, agent: str, jobs: Iterable[str]) -> list[str]:
    """Take jobs away from the agent, all of them where none is named; return which it had.

    Raises ConfigError for an agent that is not known, and for a job that no controller has.
    """
    if connection.execute(select(AGENT.c.name).where(AGENT.c.name == agent)).first() is None:
        known = list(connection.execute(select(AGENT.c.name)).scalars())
        raise ConfigError(
            f"the fleet has no agent '{agent}'" + did_you_mean(agent, known),
            id="config/fleet-agent",
            hint="the agents are in `syncd fleet agents`",
        )
    wanted = set(_ids(connection, jobs))
    granted = select(JOB.c.id, JOB.c.name).join(GRANT).where(GRANT.c.agent == agent)
    rows = [row for row in connection.execute(granted) if not wanted or row.id in wanted]
    for row in rows:
        is_it = and_(GRANT.c.agent == agent, GRANT.c.job_id == row.id)
        connection.execute(delete(GRANT).where(is_it))
    if not wanted:
        connection.execute(delete(AGENT).where(AGENT.c.name == agent))
    return [row.name for row in rows]


def has_login(connection: Connection, agent: str) -> bool:
    """Return whether PostgreSQL has a login of this name that is an agent's."""
    query = select(func.pg_has_role(literal_column("oid"), AGENTS, "MEMBER"))
    login = query.select_from(ROLES).where(ROLES.c.rolname == agent, ROLES.c.rolcanlogin)
    return bool(connection.execute(login).scalar())


def _ids(connection: Connection, jobs: Iterable[str]) -> list[int]:
    known = {row.name: row.id for row in connection.execute(select(JOB.c.id, JOB.c.name))}
    for job in jobs:
        if job not in known:
            raise ConfigError(
                f"the fleet has no job '{job}'" + did_you_mean(job, known),
                id="config/fleet-job",
                hint="a controller makes it known when it runs; see `syncd fleet status`",
            )
    return [known[job] for job in jobs]


__all__ = ["grant", "revoke"]
