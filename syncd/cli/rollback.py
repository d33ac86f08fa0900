"""`syncd rollback`: restores the previous set from the local cache."""

from __future__ import annotations

import click

from syncd.cli.common import Settings, chosen_jobs, exit_code, say
from syncd.cli.completions import complete_job
from syncd.cli.folding import terminal_columns
from syncd.cli.notifying import notification_sender
from syncd.cli.run_output import as_json, change_line, closing_line
from syncd.cli.sync import failed, show, stop_on_signals
from syncd.cli.trash_entries import show_replaced
from syncd.engine.context import Options
from syncd.engine.reload import run_job_and_reload
from syncd.engine.rollback import rollback_target
from syncd.errors import SyncdError
from syncd.fastpath.snapshot import remove_snapshot
from syncd.models import ActionKind, Job, RunReport, Trigger
from syncd.output import echo
from syncd.wiring import AppContext

NOTIFY_SECONDS = 5.0  # the next sync sends what takes longer


@click.command(
    name="rollback", short_help="The previous set again, from the local cache; holds the job."
)
@click.argument("job", shell_complete=complete_job)
@click.option(
    "--to",
    metavar="COMMIT",
    help=(
        "The commit to go back to (its first letters are enough); one of the last sets. Default:"
        " the one before."
    ),
)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.rollback/1)."
)
@click.pass_obj
def command(settings: Settings, job: str, to: str | None, as_object: bool) -> int:
    """Bring a set that stood before back, as it was. It comes from the local cache and costs no
    request.

    The job is held then: `sync` and the daemon leave it alone until `syncd resume JOB`.
    """
    config = settings.load()
    (chosen,) = chosen_jobs(config, [job])
    app = AppContext.open(config, settings.environ)
    try:
        with stop_on_signals(app):
            report = _roll_back(app, chosen, to)
        _notify(app, settings, report)
        remove_snapshot(app)  # the nothing-to-do check would ask GitHub about a held job
        code = exit_code([report])
        if as_object:
            echo(as_json("syncd.rollback/1", code, app.request_metrics.totals(), [report]))
            return code
        show(settings, report, len(report.job))
        show_replaced(settings, config.state, report)
        if not settings.quiet:
            for change in () if settings.verbose else report.changes:
                echo(
                    change_line(
                        change,
                        "not in that set" if change.action is ActionKind.REMOVE else None,
                        terminal_columns(),
                    )
                )
            echo(closing_line([report], code, app.request_metrics.totals()))
        if report.error is None:
            say(
                settings,
                f"{job} is held at {(report.commit or '')[:7]}. To follow the repository again:"
                f" syncd resume {job}",
            )
        return code
    finally:
        app.close()


def _notify(app: AppContext, settings: Settings, report: RunReport) -> None:
    """Send what `notify:` and `report:` ask for; what takes longer waits for the next process."""
    sender = notification_sender(app, settings.environ)
    sender.notify(report)
    sender.start()
    sender.close(NOTIFY_SECONDS)


def _roll_back(app: AppContext, job: Job, to: str | None) -> RunReport:
    options = Options(trigger=Trigger.ROLLBACK)
    try:
        with app.locked(job):
            back = rollback_target(job, app.store.sets(job.name), app.store.state(job.name), to)
            return run_job_and_reload(
                job,
                app.run_context(job),
                app.deadline(job),
                Options(trigger=Trigger.ROLLBACK, rollback_set=back),
            )
    except SyncdError as error:
        return failed(job, options, error)
