"""Which agents get which jobs: by name, or by labels that an operator gave the agent.

Labels of an agent's own configuration are not read here: a thief of its login could write any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    cast,
    column,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, array, insert

from syncd.errors import ConfigError
from syncd.fleet.schema import AGENT, AGENTS, CONTROLLERS, GRANT, JOB
from syncd.fleet.waves import decide, notify
from syncd.models import Job
from syncd.text import did_you_mean

ROLES = table(
    "pg_roles", column("rolname"), column("rolcanlogin"), column("rolsuper"), schema="pg_catalog"
)
OID: ColumnElement[int] = literal_column("oid")
WILDCARDS = frozenset("*?[")
MAX_NAMES = 5  # of agents, in the record of a decision


def agents_of(connection: Connection, pattern: str) -> list[str]:
    """Return the agent of this name, or the agents whose logins match `web*`.

    Raises ConfigError for a pattern that matches none.
    """
    if not WILDCARDS & set(pattern):
        return [pattern]
    found = [name for name in agent_logins(connection) if fnmatchcase(name, pattern)]
    if found:
        return found
    raise ConfigError(
        f"no login of an agent matches '{pattern}'",
        id="config/fleet-agent",
        hint="make the logins first, members of syncd_agent (docs/fleet.md)",
    )


def agent_logins(connection: Connection) -> list[str]:
    """Return the logins that are agents' and neither a controller's nor an administrator's."""
    query = (
        select(ROLES.c.rolname)
        .where(ROLES.c.rolcanlogin, ~ROLES.c.rolsuper, func.pg_has_role(OID, AGENTS, "MEMBER"))
        .where(~func.pg_has_role(OID, CONTROLLERS, "MEMBER"))
        .order_by(ROLES.c.rolname)
    )
    return list(connection.execute(query).scalars())


def grant(connection: Connection, agents: Sequence[str], jobs: Iterable[str], who: str) -> None:
    """Let the agents read these jobs. Raises ConfigError for a job that no controller has."""
    _add(connection, agents)
    for job, job_id in _ids(connection, jobs).items():
        rows = [{"agent": agent, "job_id": job_id} for agent in agents]
        connection.execute(insert(GRANT).on_conflict_do_nothing(), rows)
        decide(connection, who, job_id, "grant", _names(agents))
        notify(connection, job)


def grant_labels(
    connection: Connection, agents: Sequence[str], labels: Mapping[str, str], who: str
) -> None:
    """Give the agents labels, in the place of those of the same names."""
    _add(connection, agents)
    given = AGENT.c.labels.op("||")(cast(dict(labels), JSONB))
    connection.execute(update(AGENT).where(AGENT.c.name.in_(agents)).values(labels=given))
    text = " ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    decide(connection, who, None, "grant", f"{_names(agents)}: {text}")
    wanted = select(JOB.c.name).where(JOB.c.selector.has_any(array(labels)))
    for row in connection.execute(wanted):
        notify(connection, row.name)


def _add(connection: Connection, agents: Iterable[str]) -> None:
    rows = [{"name": agent} for agent in agents]
    connection.execute(insert(AGENT).on_conflict_do_nothing(), rows)


def _names(agents: Sequence[str]) -> str:
    more = len(agents) - MAX_NAMES
    return ", ".join(agents[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def revoke(connection: Connection, agent: str, jobs: Iterable[str], who: str) -> list[str]:
    """Take jobs away from the agent, all of them where none is named; return which it had.

    Raises ConfigError for an agent that is not known, and for a job that no controller has.
    """
    check_known(connection, agent)
    wanted = set(_ids(connection, jobs).values())
    granted = select(JOB.c.id, JOB.c.name).join(GRANT).where(GRANT.c.agent == agent)
    rows = [row for row in connection.execute(granted) if not wanted or row.id in wanted]
    for row in rows:
        is_it = and_(GRANT.c.agent == agent, GRANT.c.job_id == row.id)
        connection.execute(delete(GRANT).where(is_it))
        decide(connection, who, row.id, "revoke", agent)
    if not wanted:
        connection.execute(delete(AGENT).where(AGENT.c.name == agent))
        decide(connection, who, None, "revoke", agent)
    return [row.name for row in rows]


def revoke_labels(
    connection: Connection, agents: Sequence[str], labels: Mapping[str, str], who: str
) -> list[str]:
    """Take labels away from the agents; return those that had one of them."""
    taken = []
    for agent in agents:
        check_known(connection, agent)
        is_it = AGENT.c.name == agent
        had = connection.execute(select(AGENT.c.labels).where(is_it).with_for_update()).scalar_one()
        left = {name: value for name, value in had.items() if labels.get(name) != value}
        if left != had:
            connection.execute(update(AGENT).where(is_it).values(labels=left))
            taken.append(agent)
    if taken:
        text = " ".join(f"{name}={value}" for name, value in sorted(labels.items()))
        decide(connection, who, None, "revoke", f"{_names(taken)}: {text}")
    return taken


def check_known(connection: Connection, agent: str) -> None:
    """Raise ConfigError for an agent that was granted nothing."""
    if connection.execute(select(AGENT.c.name).where(AGENT.c.name == agent)).first() is not None:
        return
    known = list(connection.execute(select(AGENT.c.name)).scalars())
    raise ConfigError(
        f"the fleet has no agent '{agent}'" + did_you_mean(agent, known),
        id="config/fleet-agent",
        hint="the agents are in `syncd fleet agents`",
    )


def labels_of(connection: Connection, agent: str) -> dict[str, str]:
    """Return the labels that an agent was given."""
    found = connection.execute(select(AGENT.c.labels).where(AGENT.c.name == agent)).scalar()
    return dict(found or {})


def agents_with(connection: Connection, name: str, job: Job) -> int:
    """Return how many agents have the labels of the job's `where:`, or a grant of it."""
    granted = exists().where(GRANT.c.agent == AGENT.c.name, GRANT.c.job_id == JOB.c.id)
    by_name = exists().where(JOB.c.name == name, granted)
    labelled = AGENT.c.labels.contains(cast(dict(job.where), JSONB))
    count = select(func.count()).select_from(AGENT).where(or_(labelled, by_name))
    return int(connection.execute(count).scalar_one())


def without_login(connection: Connection, agents: Sequence[str]) -> list[str]:
    """Return the agents for which PostgreSQL has no login that is an agent's."""
    query = select(ROLES.c.rolname).where(
        ROLES.c.rolname.in_(agents), ROLES.c.rolcanlogin, func.pg_has_role(OID, AGENTS, "MEMBER")
    )
    known = set(connection.execute(query).scalars())
    return [agent for agent in agents if agent not in known]


def _ids(connection: Connection, jobs: Iterable[str]) -> dict[str, int]:
    known = {row.name: row.id for row in connection.execute(select(JOB.c.id, JOB.c.name))}
    for job in jobs:
        if job not in known:
            raise ConfigError(
                f"the fleet has no job '{job}'" + did_you_mean(job, known),
                id="config/fleet-job",
                hint="a controller makes it known when it runs; see `syncd fleet status`",
            )
    return {job: known[job] for job in jobs}


__all__ = [
    "agent_logins",
    "agents_of",
    "agents_with",
    "grant",
    "grant_labels",
    "labels_of",
    "revoke",
    "revoke_labels",
    "without_login",
]
