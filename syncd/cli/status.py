"""`syncd status`: shows the state of every job, from the store alone."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from syncd.cli.common import Settings, chosen_jobs, emit, say
from syncd.cli.table import table
from syncd.config.model import Config
from syncd.engine.hook_result import shown_command
from syncd.output import echo
from syncd.status import (
    CONDITIONS,
    JobSnapshot,
    StatusSnapshot,
    ago,
    delivery_problem,
    rate_limit_line,
    read_status,
    status_json,
    webhook_line,
)
from syncd.status.identities import expiring_tokens
from syncd.store.token_expiry import expiries_of
from syncd.stored_jobs import open_store
from syncd.text import json_text, one_line, styled

COLOUR = {
    "failing": "red",
    "drift": "yellow",
    "paused": "cyan",
    "never": "cyan",
    "in_sync": "green",
}
EXIT_NOT_IN_SYNC = 3


@click.command(name="status", short_help="The state of every job.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (schema syncd.status/1)."
)
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], as_json: bool) -> int:
    """Show the state of every job: what it holds, when it last ran, what is wrong. Exit 3 when not
    everything is in sync, or when the daemon has died.
    """
    config = settings.load_read_only(members=True)
    chosen = chosen_jobs(config, jobs)
    store = open_store(config, read_only=True)
    try:
        readings = read_status(config, store, datetime.now(UTC), names=[job.name for job in chosen])
        expiries = expiries_of(store.facts.token_expiries(), config.state, config.identities)
    finally:
        store.close()
    for name, text, hint in expiring_tokens(config.identities, expiries, readings.at):
        say(settings, f"! {name}: {text}; {hint}")
    if as_json:
        echo(json_text(status_json(readings)))
    else:
        _show(settings, config, readings)
    return 0 if _is_well(readings) else EXIT_NOT_IN_SYNC


def _is_well(readings: StatusSnapshot) -> bool:
    in_sync = all(one.condition == "in_sync" for one in readings.jobs)
    return in_sync and (readings.daemon is None or readings.daemon.is_well)


def _show(settings: Settings, config: Config, readings: StatusSnapshot) -> None:
    lines = [["STATE", "JOB", "SOURCE", "MIRROR", "COMMIT", "FILES", "LAST SUCCESS"]]
    for one in sorted(readings.jobs, key=lambda one: CONDITIONS.index(one.condition)):
        job = one.job
        mirror = job.paths[0].to + (f" (+{len(job.paths) - 1})" if len(job.paths) > 1 else "")
        commit, last = (
            (one.state.applied_commit or "-")[:7],
            ago(one.state.last_success_at, readings.at),
        )
        lines.append(
            [
                one_line(cell)
                for cell in (
                    one.condition.replace("_", " "),
                    job.name,
                    f"{job.repo}@{job.ref or 'HEAD'}",
                    mirror,
                    commit,
                    str(one.files),
                    last,
                )
            ]
        )
    for number, text in enumerate(table(lines)):
        state = lines[number][0].replace(" ", "_")
        emit(
            settings,
            (
                styled(text, bold=True)
                if number == 0
                else text.replace(
                    lines[number][0], styled(lines[number][0], fg=COLOUR.get(state)), 1
                )
            ),
        )
    for one in readings.jobs:
        for text in _remarks(config, one):
            emit(settings, f"  {one.job.name}: {text}")
    for one_limit in readings.rate_limits:
        if (line := rate_limit_line(one_limit, readings)) is not None:
            emit(settings, line)
    if readings.webhook is not None:
        emit(settings, f"webhook: {webhook_line(readings.webhook, readings.at)}")
    for delivery in readings.deliveries:
        trouble = delivery_problem(delivery)
        if trouble is not None:
            emit(settings, f"  notify: {trouble}")


def _remarks(config: Config, one: JobSnapshot) -> list[str]:
    found = [] if one.state.last_error is None else [one.state.last_error.message]
    if one.condition == "paused":
        found.append(f"{one.state.describe_pause()}; syncd resume {one.job.name}")
    if one.state.pending_reload is not None:
        hook = config.jobs[one.job.name].on_change
        found.append(
            "on_change is pending" + (f": {shown_command(hook)}" if hook is not None else "")
        )
    if one.state.drift_count:
        files = (
            "1 file or folder differs"
            if one.state.drift_count == 1
            else f"{one.state.drift_count:,} files or folders differ"
        )
        found.append(f"{files} from what was mirrored; see syncd plan {one.job.name}")
    return found
