"""`syncd status`: shows the state of every job and of the daemon, from the store alone."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime

import click

from syncd.cli.common import Settings, chosen_jobs, emit, say
from syncd.cli.completions import complete_job
from syncd.cli.status_table import status_lines
from syncd.config.model import Config
from syncd.models import Job
from syncd.output import clear_screen, echo
from syncd.status import StatusSnapshot, read_status, status_json
from syncd.status.identities import expiring_tokens
from syncd.store.store import SqliteStore
from syncd.store.token_expiry import expiries_of
from syncd.stored_jobs import open_store
from syncd.text import json_text

EXIT_NOT_IN_SYNC = 3
WELL = ("in_sync", "waiting")  # a commit that waits for its window is no trouble
WATCH_SECONDS = 2.0


@click.command(name="status", short_help="The state of every job.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (schema syncd.status/1)."
)
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], watch: bool, as_json: bool) -> int:
    """Show the state of every job, why it is so and what to type, and whether the daemon is alive.
    Exit 3 when not every job is in sync, or when one is overdue.
    """
    config = settings.load_read_only(members=True)
    chosen = chosen_jobs(config, jobs)
    if not watch:
        return _show_once(settings, config, chosen, as_json)
    if as_json or not sys.stdout.isatty():
        raise click.UsageError("--watch shows a screen: it needs a terminal, and no --json")
    while True:
        clear_screen()
        _show_once(settings, config, chosen, as_json)
        time.sleep(WATCH_SECONDS)


def _show_once(settings: Settings, config: Config, jobs: list[Job], as_json: bool) -> int:
    """Read and show the status; return the exit code."""
    store = open_store(config, read_only=True)
    try:
        snapshot = read_status(config, store, datetime.now(UTC), names=[job.name for job in jobs])
        _say_expiries(settings, config, store, snapshot)
    finally:
        store.close()
    if as_json:
        echo(json_text(status_json(snapshot)))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in status_lines(snapshot, width):
            emit(settings, line)
    return 0 if _is_well(snapshot) else EXIT_NOT_IN_SYNC


def _say_expiries(
    settings: Settings, config: Config, store: SqliteStore, snapshot: StatusSnapshot
) -> None:
    """Name the tokens that end soon."""
    expiries = expiries_of(store.facts.token_expiries(), config.state, config.identities)
    for name, text, hint in expiring_tokens(config.identities, expiries, snapshot.at):
        say(settings, f"! {name}: {text}; {hint}")


def _is_well(snapshot: StatusSnapshot) -> bool:
    in_sync = all(one.condition in WELL for one in snapshot.jobs)
    return in_sync and (snapshot.daemon is None or not snapshot.daemon.overdue)
