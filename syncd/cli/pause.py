"""`syncd pause`: suspends a job for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from syncd.cache_file import remove_cache
from syncd.cli.common import Settings, chosen_jobs, emit, require_utf8
from syncd.cli.completions import complete_job
from syncd.config.value_types import duration
from syncd.fastpath.check import NAME as SNAPSHOT
from syncd.ports import Pause
from syncd.stored_jobs import open_store


@click.command(name="pause", short_help="Leave a job alone until it is resumed.")
@click.argument("job", shell_complete=complete_job)
@click.option(
    "--for",
    "lasting",
    metavar="2h",
    help="It resumes by itself after this time (like 30s, 5m, 1h30m or 1d).",
)
@click.option(
    "--reason",
    metavar="TEXT",
    callback=require_utf8,
    default="no reason given",
    help="Why; `status` shows it.",
)
@click.pass_obj
def command(settings: Settings, job: str, lasting: str | None, reason: str) -> int:
    """Leave a job alone: no request, no write, no repair, until `syncd resume JOB`. A run that goes
    on is finished first.
    """
    config = settings.load()
    chosen_jobs(config, [job])
    until = None
    if lasting is not None:
        try:
            until = datetime.now(UTC) + timedelta(seconds=duration(lasting))
        except (ValueError, OverflowError) as error:
            raise click.BadParameter(
                f"'{lasting}' is not a duration; write it like 30s, 5m, 1h30m or 1d",
                param_hint="--for",
            ) from error
    store = open_store(config)
    try:
        pause = Pause(reason, until)
        store.change_state(job, lambda state: state.with_pause(pause, datetime.now(UTC)))
    finally:
        store.close()
    remove_cache(f"{config.state}/{SNAPSHOT}")  # the nothing-to-do check would ask GitHub
    emit(
        settings,
        f"{job} is paused{f' until {until:%Y-%m-%dT%H:%M:%SZ}' if until else ''}. To go on: syncd"
        f" resume {job}",
    )
    return 0
