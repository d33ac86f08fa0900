"""`syncd fleet history` and `forget`: what was decided, and jobs that no controller has."""

from __future__ import annotations

import click

from syncd.cli.common import Settings, emit, require_utf8
from syncd.cli.fleet_common import json_option, transaction, who
from syncd.cli.table import table
from syncd.clock import rfc3339
from syncd.output import echo
from syncd.text import json_text, one_line

HEADING = ("TIME", "JOB", "ACTION", "WHO", "DETAIL")


@click.command(name="history", short_help="What was decided, by whom and when.")
@click.argument("job", required=False, callback=require_utf8)
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many decisions.",
)
@json_option("syncd.fleet.history/1")
@click.pass_obj
def history_command(settings: Settings, job: str | None, count: int, as_object: bool) -> int:
    """Show what operators and controllers decided, of JOB or of all, the newest first. Jobs that
    the fleet has forgotten are in it.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet.decisions import recorded_decisions

        found = recorded_decisions(connection, job, count)
    if as_object:
        rows = [
            {
                "at": rfc3339(one.at),
                "job": one.job,
                "action": one.action,
                "who": one.who,
                "login": one.login,
                "detail": one.detail,
            }
            for one in found
        ]
        echo(json_text({"schema": "syncd.fleet.history/1", "decisions": rows}))
        return 0
    if not found:
        emit(settings, "Nothing was decided yet.")
        return 0
    lines = [
        (rfc3339(one.at) or "-", *map(one_line, (one.job or "-", one.action, one.who, one.detail)))
        for one in found
    ]
    emit(settings, "\n".join(table([HEADING, *lines])))
    return 0


@click.command(name="forget", short_help="Remove a job that no controller has.")
@click.argument("job", callback=require_utf8)
@json_option("syncd.fleet.decision/1")
@click.pass_obj
def forget_command(settings: Settings, job: str, as_object: bool) -> int:
    """Remove JOB from the database: its revisions, grants and reports. It must be in no
    controller's configuration. The files of the agents stay, and so do the decisions about it.
    """
    with transaction(settings, settings.load()) as connection:
        from syncd.fleet.controllers import forget_job

        forget_job(connection, job, who())
    if as_object:
        shown = {"action": "forget", "job": job, "commit": None}
        echo(json_text({"schema": "syncd.fleet.decision/1", **shown}))
        return 0
    emit(settings, f"The fleet has forgotten {one_line(job)}. The files of its agents stay.")
    return 0


__all__ = ["forget_command", "history_command"]
