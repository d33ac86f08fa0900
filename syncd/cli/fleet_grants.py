"""`syncd fleet grant` and `revoke`: which agents get which jobs, by name or by labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from syncd.cli.common import Settings, emit, require_utf8, say
from syncd.cli.fleet_common import json_option, transaction, who
from syncd.errors import ConfigError
from syncd.fleet_labels import label_of, labels_text
from syncd.output import echo
from syncd.text import json_text, one_line


def _labels(_context: click.Context, _option: click.Parameter, texts: Iterable[str]) -> object:
    try:
        return dict(label_of(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_labels,
    help="A label, which jobs choose by where:.",
)


@click.command(name="grant", short_help="Let agents mirror jobs.")
@click.argument("agent", callback=require_utf8)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@_label_option
@json_option("syncd.fleet.grant/1")
@click.pass_obj
def grant_command(
    settings: Settings,
    agent: str,
    jobs: tuple[str, ...],
    labels: dict[str, str],
    as_object: bool,
) -> int:
    """Let AGENT, a login of the database, read these jobs, and all jobs whose where: its labels
    match. Its own configuration says where the files go.

    AGENT may be a pattern such as 'web*': it means the agents' logins that there are now.
    """
    _need(jobs, labels, "grant")
    config = settings.load()
    with transaction(settings, config) as connection:
        from syncd.fleet import grants, leases

        leases.register(connection, config.polled_jobs)
        agents = grants.agents_of(connection, agent)
        if jobs:
            grants.grant(connection, agents, jobs, who())
        if labels:
            grants.grant_labels(connection, agents, labels, who())
        missing = grants.without_login(connection, agents)
    if as_object:
        shown = {"agent": agent, "agents": agents, "jobs": list(jobs), "labels": labels}
        echo(json_text({"schema": "syncd.fleet.grant/1", **shown, "login": not missing}))
        return 0
    for name in agents:
        emit(settings, f"{one_line(name)} {_given(jobs, labels)}.")
    for name in missing:
        _say_login(settings, name)
    return 0


@click.command(name="revoke", short_help="Take jobs or labels away from an agent.")
@click.argument("agent", callback=require_utf8)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@_label_option
@json_option("syncd.fleet.revoke/1")
@click.pass_obj
def revoke_command(
    settings: Settings,
    agent: str,
    jobs: tuple[str, ...],
    labels: dict[str, str],
    as_object: bool,
) -> int:
    """Take these jobs and labels away from AGENT; without any, all of them, and the agent is
    forgotten. Its files stay. The login stays too: drop it in PostgreSQL.
    """
    had_labels, taken = False, list[str]()
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet import grants

        if labels:
            had_labels = bool(grants.revoke_labels(connection, [agent], labels, who()))
        if jobs or not labels:
            taken = grants.revoke(connection, agent, jobs, who())
    gone = labels if had_labels else {}
    if as_object:
        shown = {"agent": agent, "jobs": taken, "labels": gone}
        echo(json_text({"schema": "syncd.fleet.revoke/1", **shown}))
        return 0
    what = ", ".join(map(one_line, [*taken, *([labels_text(gone)] if gone else [])]))
    emit(settings, f"{one_line(agent)} lost {what or 'nothing: it had none of these'}.")
    return 0


def _need(jobs: Sequence[str], labels: dict[str, str], command: str) -> None:
    if not jobs and not labels:
        raise ConfigError(
            f"fleet {command}: neither a job nor a label was named",
            id="config/fleet-nothing-granted",
            hint="syncd fleet grant AGENT JOB, or syncd fleet grant AGENT --label NAME=VALUE",
        )


def _given(jobs: Sequence[str], labels: dict[str, str]) -> str:
    may = f"may mirror {', '.join(map(one_line, jobs))}" if jobs else ""
    has = f"has {labels_text(labels)}" if labels else ""
    return " and ".join(filter(None, (may, has)))


def _say_login(settings: Settings, agent: str) -> None:
    quoted = '"' + agent.replace('"', '""') + '"'
    say(settings, f"PostgreSQL has no login {one_line(agent)} that is an agent's yet:")
    say(
        settings,
        f"→ CREATE ROLE {one_line(quoted)} LOGIN PASSWORD '...' CONNECTION LIMIT 3"
        " IN ROLE syncd_agent;",
    )


__all__ = ["grant_command", "revoke_command"]
