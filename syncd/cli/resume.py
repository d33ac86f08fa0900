"""`syncd resume`: lets a paused or held job follow its repository again."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from syncd.cli.common import Settings, chosen_jobs, emit
from syncd.cli.completions import complete_job
from syncd.stored_jobs import open_store


@click.command(name="resume", short_help="Go on with a paused or held job.")
@click.argument("job", shell_complete=complete_job)
@click.pass_obj
def command(settings: Settings, job: str) -> int:
    """Go on with a job that was paused, or held after a rollback. The next run brings it
    in sync.
    """
    config = settings.load()
    chosen_jobs(config, [job])
    store = open_store(config)
    try:
        before = store.state(job)
        store.change_state(job, lambda state: state.with_pause(None, datetime.now(UTC)))
    finally:
        store.close()
    went_on = before.paused(datetime.now(UTC))
    emit(
        settings,
        (
            f"{job} goes on with its next run; now: syncd sync {job}"
            if went_on
            else f"{job} was not paused."
        ),
    )
    return 0
