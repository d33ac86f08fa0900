"""`syncd fleet`: the fleet's database, who gets which job when, and how the agents are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from syncd.cli import fleet_grants, fleet_history
from syncd.cli.common import EXIT_SOME_FAILED, Settings, emit, require_utf8
from syncd.cli.fleet_common import json_option, transaction, who
from syncd.cli.table import table
from syncd.clock import SystemClock, rfc3339
from syncd.fleet_labels import labels_text
from syncd.identities import SecretRef
from syncd.output import echo
from syncd.text import json_text, one_line

if TYPE_CHECKING:
    from syncd.fleet.overview import AgentJob, FleetAgent, FleetJob

JOBS_HEADING = ("JOB", "COMMIT", "PUBLISHED", "AGENTS IN SYNC", "STATE")
AGENTS_HEADING = ("AGENT", "HOST", "VERSION", "LAST SEEN", "LABELS", "JOBS IN SYNC", "STATE")


@click.group(name="fleet", short_help="The database of a fleet: jobs, agents and grants.")
def command() -> None:
    """Set up the database of a fleet, grant jobs to agents, and see how they are.

    These commands belong to controllers and to the owner of the database. `fleet:` of the
    configuration names it.
    """


command.add_command(fleet_grants.grant_command)
command.add_command(fleet_grants.revoke_command)
command.add_command(fleet_history.history_command)
command.add_command(fleet_history.forget_command)


@command.command(name="init", short_help="Make the tables, roles and policies.")
@click.option(
    "--database",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file with the address of a login that owns the database; else fleet.database.",
)
@json_option("syncd.fleet.init/1")
@click.pass_obj
def init_command(settings: Settings, database: Path | None, as_object: bool) -> int:
    """Make the tables, roles and policies of a fleet in an empty database, or bring those of an
    older syncd to this version. It may run again at any time.
    """
    from syncd.wiring.fleet import fleet_of

    config = settings.load()
    fleet = fleet_of(config)
    if database is not None:
        ref = SecretRef("file", str(database.resolve()))
        config = replace(config, fleet=replace(fleet, database=ref))
    with transaction(settings, config) as connection:
        from syncd.fleet.migrate import initialise
        from syncd.fleet.schema import VERSION

        initialise(connection)
    if as_object:
        echo(json_text({"schema": "syncd.fleet.init/1", "version": VERSION}))
        return 0
    emit(settings, f"The database has the fleet's schema {VERSION}.")
    for role, name in (("syncd_controller", "CONTROLLER"), ("syncd_agent", "AGENT")):
        limit = "CONNECTION LIMIT 3 " if role == "syncd_agent" else ""
        emit(settings, f"→ CREATE ROLE {name} LOGIN PASSWORD '...' {limit}IN ROLE {role};")
    return 0


@command.command(name="halt", short_help="Publish nothing more of a job.")
@click.argument("job")
@click.option("--reason", default="", metavar="TEXT", callback=require_utf8, help="Shown to all.")
@json_option("syncd.fleet.decision/1")
@click.pass_obj
def halt_command(settings: Settings, job: str, reason: str, as_object: bool) -> int:
    """Publish nothing more of JOB, and begin no further wave, until it is resumed. Agents keep what
    they have, and repair drift.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet import waves

        waves.halt(connection, job, who(), reason)
    return _decided(settings, "halt", job, None, as_object)


@command.command(name="resume", short_help="Go on with a halted job or rollout.")
@click.argument("job")
@json_option("syncd.fleet.decision/1")
@click.pass_obj
def resume_command(settings: Settings, job: str, as_object: bool) -> int:
    """Go on with JOB after a halt or a rollback, and with a rollout that stopped by itself: its
    agents have to report healthy again.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet import waves

        waves.resume(connection, job, who())
    return _decided(settings, "resume", job, None, as_object)


@command.command(name="promote", short_help="Release the last commit to every agent now.")
@click.argument("job")
@json_option("syncd.fleet.decision/1")
@click.pass_obj
def promote_command(settings: Settings, job: str, as_object: bool) -> int:
    """Release the last commit of JOB to every agent now, whatever the agents of its waves
    reported.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet import waves

        commit = waves.promote(connection, job, who())
    return _decided(settings, "promote", job, commit, as_object)


@command.command(name="rollback", short_help="An earlier commit again, on every agent.")
@click.argument("job")
@click.option("--to", "commit", metavar="COMMIT", help="One of the last published commits.")
@json_option("syncd.fleet.decision/1")
@click.pass_obj
def rollback_command(settings: Settings, job: str, commit: str | None, as_object: bool) -> int:
    """Publish the commit before the last one again, for every agent at once, and halt JOB until it
    is resumed. It asks GitHub nothing.
    """
    from syncd.wiring.fleet import FleetParts

    config = settings.load()
    parts = FleetParts(config, settings.environ, SystemClock(), goes_on=False)
    signer = parts.signer()
    with transaction(settings, config) as connection:
        from syncd.fleet import waves
        from syncd.fleet.publish import republish

        row = waves.job_row(connection, job)
        revision = republish(connection, row, commit, parts.name, signer)
        waves.halt(connection, job, who(), f"rollback to {revision.commit[:7]}")
    return _decided(settings, "rollback", job, revision.commit, as_object)


def _decided(settings: Settings, action: str, job: str, commit: str | None, as_object: bool) -> int:
    """Show what was decided; return the exit code."""
    if as_object:
        shown = {"action": action, "job": job, "commit": commit}
        echo(json_text({"schema": "syncd.fleet.decision/1", **shown}))
        return 0
    name = one_line(job)
    said = {
        "halt": f"{name} is halted. → syncd fleet resume {name}",
        "resume": f"{name} goes on.",
        "promote": f"Every agent gets commit {(commit or '')[:7]} of {name} now.",
        "rollback": f"Every agent gets commit {(commit or '')[:7]} of {name} again, and {name} is "
        f"halted. → syncd fleet resume {name}",
    }
    emit(settings, said[action])
    return 0


@command.command(name="status", short_help="What is published, and which agents have it.")
@json_option("syncd.fleet/1")
@click.pass_obj
def status_command(settings: Settings, as_object: bool) -> int:
    """Show each job: its last commit, and how many of its agents have it. Exit 3 where a poll or
    an agent fails.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet.overview import fleet_jobs

        jobs = fleet_jobs(connection)
    failing = any(
        one.error is not None
        or _failing(one.agents)
        or (one.rollout is not None and one.rollout.stopped is not None)
        for one in jobs
    )
    if as_object:
        from syncd.fleet.overview_json import jobs_json

        echo(json_text(jobs_json(jobs)))
    elif not jobs:
        emit(settings, "The fleet has no job yet: start a controller.")
    else:
        lines = table([JOBS_HEADING, *(_job_line(one) for one in jobs)])
        emit(settings, "\n".join(lines))
    return EXIT_SOME_FAILED if failing else 0


@command.command(name="agents", short_help="Every agent, where it was last seen, and its jobs.")
@json_option("syncd.fleet.agents/1")
@click.pass_obj
def agents_command(settings: Settings, as_object: bool) -> int:
    """Show each agent, where it was last seen, and how its jobs are. Exit 3 where one fails, or
    where two machines use one name.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet.overview import fleet_agents

        agents = fleet_agents(connection)
    wrong = any(one.twins or _failing(one.jobs) for one in agents)
    if as_object:
        from syncd.fleet.overview_json import agents_json

        echo(json_text(agents_json(agents)))
    elif not agents:
        emit(settings, "The fleet has no agent yet: syncd fleet grant AGENT JOB")
    else:
        lines = table([AGENTS_HEADING, *(_agent_line(one) for one in agents)])
        emit(settings, "\n".join(lines))
    return EXIT_SOME_FAILED if wrong else 0


# --- rows -----------------------------------------------------------------------------------------


def _failing(jobs: Sequence[AgentJob]) -> bool:
    return any(one.state == "failing" for one in jobs)


def _in_sync(jobs: Sequence[AgentJob]) -> str:
    good = sum(one.state == "in_sync" for one in jobs)
    return f"{good} of {len(jobs)}"


def _job_line(job: FleetJob) -> tuple[str, ...]:
    failing = [one.agent for one in job.agents if one.state == "failing"]
    how = "in sync" if job.commit else "not published yet"
    if job.halted is not None:
        how = f"halted by {one_line(job.halted.by)}"
        how += f": {one_line(job.halted.reason)}" if job.halted.reason else ""
    elif job.rollout is not None and job.rollout.stopped is not None:
        how = f"rollout stopped: {one_line(job.rollout.stopped)}"
    elif job.controllers is not None and not job.controllers:
        how = f"no controller has it → syncd fleet forget {one_line(job.name)}"
    elif job.error is not None:
        how = one_line(job.error)
    elif failing:
        how = f"failing on {', '.join(map(one_line, failing[:3]))}"
        how += f" and {len(failing) - 3} more" if len(failing) > 3 else ""
    elif job.rollout is not None:
        how = f"wave {job.rollout.wave}: {len(job.rollout.agents)} of {len(job.agents)} agents"
    elif any(one.state != "in_sync" for one in job.agents):
        how = "under way"
    elif len(set((job.controllers or {}).values())) > 1:
        how = f"listed differently by {', '.join(map(one_line, job.controllers or {}))}"
    elif job.where and not job.agents:
        how = f"no agent has the labels {one_line(labels_text(job.where))}"
    commit = (job.commit or "-")[:7]
    return one_line(job.name), commit, _time(job.published_at), _in_sync(job.agents), how


def _agent_line(agent: FleetAgent) -> tuple[str, ...]:
    failing = [one for one in agent.jobs if one.state == "failing"]
    how = "good"
    if agent.twins:
        how = f"two machines use this name: {', '.join(map(one_line, agent.twins))}"
    elif failing:
        job, error = one_line(failing[0].job), one_line(failing[0].error or "failing")
        how = error if error.startswith(f"{job}: ") else f"{job}: {error}"
    elif agent.seen_at is None:
        how = "not seen yet"
    elif any(one.state != "in_sync" for one in agent.jobs):
        how = "under way"
    elif agent.asked:
        how = f"it asks for {one_line(labels_text(agent.asked))}"
    names = (one_line(agent.name), one_line(agent.host or "-"), one_line(agent.version or "-"))
    labels = one_line(labels_text(agent.labels))
    return *names, _time(agent.seen_at), labels, _in_sync(agent.jobs), how


def _time(moment: datetime | None) -> str:
    return rfc3339(moment) or "-"
