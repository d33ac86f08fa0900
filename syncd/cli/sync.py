"""`syncd sync`: runs the jobs once, side by side; for cron and for manual use."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

import click
from msgspec.structs import replace

from syncd.cli.common import Settings, bug_report, chosen_jobs, emit, exit_code, require_utf8, say
from syncd.cli.completions import complete_job
from syncd.cli.folding import terminal_columns
from syncd.cli.notifying import notification_sender
from syncd.cli.progress import progress_of
from syncd.cli.run_output import (
    as_json,
    change_line,
    closing_line,
    error_lines,
    id_line,
    summary_line,
)
from syncd.cli.trash_entries import show_replaced
from syncd.config.cache import save_cached
from syncd.engine.context import Options
from syncd.engine.health_check import finish_window, watch, window_report, with_ended_window
from syncd.engine.reload import JobRun, ReloadGroup, run_reload
from syncd.engine.run import run_job
from syncd.engine.worker_pool import WorkerPool
from syncd.errors import BugError, ConfigError, LockedError, SyncdError, unexpected
from syncd.fastpath.snapshot import remove_snapshot, write_snapshot
from syncd.models import ActionKind, Job, RunReport, RunStatus
from syncd.output import echo
from syncd.stored_jobs import follow_renames
from syncd.wiring import AppContext, ConnectionOptions

NOTIFY_SECONDS = 10.0  # after the last run; the next sync sends what takes longer
# After a change, the snapshot lists at most so many files, so that a change does not wait for it,
# and of more the requests alone. A run that finds everything unchanged lists any number.
MAX_FILES_AFTER_CHANGE = 500


@click.command(name="sync", short_help="Bring the jobs in sync once.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@click.option(
    "--ref",
    metavar="REF",
    callback=require_utf8,
    help="Mirror this branch, tag or commit instead, in this run only; name the jobs.",
)
@click.option(
    "--now",
    is_flag=True,
    help="Apply new commits now, also outside the windows of apply: and in a freeze.",
)
@click.option(
    "--allow-delete",
    type=click.IntRange(0),
    metavar="N",
    help="Let each job remove up to N files this once; also lifts limits.empty.",
)
@click.option(
    "--metrics-file",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Write metrics there for the textfile collector of Prometheus' node exporter.",
)
@click.option(
    "--forget",
    metavar="JOB",
    shell_complete=complete_job,
    callback=require_utf8,
    help="Forget what is recorded of JOB, then go on; its files stay.",
)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.sync/1)."
)
@click.pass_obj
def command(
    settings: Settings,
    jobs: tuple[str, ...],
    ref: str | None,
    now: bool,
    allow_delete: int | None,
    metrics_file: str | None,
    forget: str | None,
    as_object: bool,
) -> int:
    """Bring the named jobs, or all of them, in sync once. A failing job never stops the others.

    Exit: 0 in sync, 3 some failed, 4 GitHub refused the credentials, 5 try again later, 6 a limit
    stopped it, 11 another syncd is at work.
    """
    if ref is not None and not jobs:
        raise ConfigError(
            "--ref changes what a job mirrors: name the jobs it is for",
            id="config/ref-without-job",
            hint=f"syncd sync JOB --ref {ref}",
        )
    config = settings.load_with_cache()
    chosen = chosen_jobs(config, jobs)
    app = AppContext.open(config, settings.environ, options=ConnectionOptions(early=settings.early))
    started_at = app.clock.now()
    try:
        if forget is not None:
            _forget(settings, app, forget)
            chosen = [job for job in chosen if job.name != forget or forget in jobs]
        options = Options(ref=ref, allow_delete=allow_delete, now=now)
        reports = _run(settings, app, chosen, options, as_object)
        code = exit_code(reports)
        if settings.early is not None:
            settings.early.wait()  # their answers count as requests, also those that no job needed
        _print_result(settings, app, reports, as_object)
        if metrics_file is not None and not _write_metrics_file(
            metrics_file, app, reports, started_at
        ):
            code = code or 1
        save_cached(config, settings.environ)
        _update_snapshot(settings, app, reports, usable=code == 0 and ref is None)
        return code
    finally:
        app.close()


def _forget(settings: Settings, app: AppContext, name: str) -> None:
    """Delete what is recorded of a job; its files stay."""
    count = app.store.forget(name)
    follow_renames(app.config.jobs, app.store)
    say(settings, f"forgot {count} files of {name}; they stay where they are")


def _run(
    settings: Settings, app: AppContext, jobs: Sequence[Job], options: Options, quiet: bool
) -> list[RunReport]:
    """Run the jobs, show each when it is done unless `quiet`, and send notifications."""
    width = max((len(job.name) for job in jobs), default=0)
    sender = notification_sender(app, settings.environ)

    def on_done(report: RunReport) -> None:
        """Queue the notification of a finished run, and of a window that it ended; show it."""
        for one in (report.ended_window, report):
            if one is not None:
                sender.notify(one)
        report = with_ended_window(report)
        if app.config.fleet is not None:
            app.fleet.report(report)
        if not quiet:
            show(settings, report, width)
            show_replaced(settings, app.config.state, report)

    sender.start()
    try:
        with stop_on_signals(app), progress_of(settings, app, len(jobs)) as progress:
            reports = run_all(app, jobs, options, on_done, progress.finished)
            return [with_ended_window(report) for report in reports]
    finally:
        sender.close(NOTIFY_SECONDS)


def _print_result(
    settings: Settings, app: AppContext, reports: Sequence[RunReport], as_object: bool
) -> None:
    code, requests = exit_code(reports), app.request_metrics.totals()
    if as_object:
        echo(as_json("syncd.sync/1", code, requests, reports))
    elif not settings.quiet:
        echo(closing_line(reports, code, requests))


def _update_snapshot(
    settings: Settings, app: AppContext, reports: Sequence[RunReport], usable: bool
) -> None:
    """Write the snapshot that the next nothing-to-do check reads, or remove an outdated one.

    With an outdated one, the next run would ask about the refs twice.
    """
    unchanged = all(report.status is RunStatus.UNCHANGED for report in reports)
    files = sum(report.files for report in reports)
    quick = unchanged or files <= MAX_FILES_AFTER_CHANGE
    if usable and not app.store.notifications.count_pending():
        app.save_rate_limits()
        write_snapshot(app, settings.environ, with_files=quick)
    else:
        remove_snapshot(app)


def _write_metrics_file(
    metrics_file: str, app: AppContext, reports: Sequence[RunReport], started_at: datetime
) -> bool:
    """Write the metrics of this run, and return whether that worked.

    A failure is printed; the mirrors are not affected.
    """
    from syncd.cli.metrics import write_metrics

    try:
        write_metrics(metrics_file, app, reports, started_at)
    except (SyncdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        echo(f"syncd: the metrics can't be written to {metrics_file}: {reason}", err=True)
        return False
    return True


def run_all(
    app: AppContext,
    jobs: Sequence[Job],
    options: Options,
    on_done: Callable[[RunReport], None],
    on_end: Callable[[str], None] = lambda job: None,
) -> list[RunReport]:
    """Run every job and its hook, and return the reports in the order of the jobs.

    `on_done` is called with each report as it is finished, and `on_end` with the name of a job that
    does nothing more, also when another job runs the hook of both.
    """
    reloads: ReloadGroup[ExitStack] = ReloadGroup(jobs)
    reports: dict[str, RunReport] = {}

    def run_one(job: Job, on_waiting: Callable[[bool], None] | None) -> None:
        """Run one job, and collect the reports that are finished with it."""
        finished = _run_one(app, job, options, reloads, on_waiting)
        on_end(job.name)
        for report in finished:
            reports[report.job] = report
            on_done(report)

    if len(jobs) == 1:
        run_one(jobs[0], None)
    else:
        WorkerPool(app.config.workers, app.rate_limit_key).run_all(jobs, run_one)
    return [reports[job.name] for job in jobs]


def _run_one(
    app: AppContext,
    job: Job,
    options: Options,
    reloads: ReloadGroup[ExitStack],
    on_waiting: Callable[[bool], None] | None = None,
) -> list[RunReport]:
    """Run one job under its lock, and return the finished reports.

    The last of the jobs that share an `on_change` runs the hook for all of them, and their health
    checks. A run that can't even begin is a failed report, so that the others go on. A job with a
    pending reload or health check keeps its lock until that is done.
    """
    deadline, lock, ctx = app.deadline(job, on_waiting=on_waiting), ExitStack(), None
    try:
        # it knows a renamed job's former name, which `locked` replaces in the store
        made = app.run_context(job)
        lock.enter_context(app.locked(job))
        ctx = made  # stays None without the lock: a pending reload is the holder's to run
        before = window_report(job, app.store.state(job.name), options.trigger)
        window = finish_window(JobRun(job, ctx, before), deadline)
        report = replace(run_job(job, ctx, deadline, options), ended_window=window)
    except SyncdError as error:
        report = failed(job, options, error)
    except Exception as error:  # noqa: BLE001  (a bug in one job stops no other)
        report = failed(job, options, bug(error))
    if not report.reload_pending and not report.checking:
        lock.close()
    members = reloads.arrive(JobRun(job, ctx, report), lock)
    try:
        runs = [member for member, _ in members]
        return watch(runs, run_reload(runs, deadline), deadline)
    except SyncdError as error:
        return [
            replace(member.report, status=RunStatus.FAILED, error=member.report.error or error)
            for member, _ in members
        ]
    except Exception as error:  # noqa: BLE001  (as above)
        return [failed(member.job, options, bug(error)) for member, _ in members]
    finally:
        for _, held in members:
            held.close()


def failed(job: Job, options: Options, error: SyncdError) -> RunReport:
    """Return the report of a run that ended with the error before it did anything."""
    return RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        options.ref or job.ref,
        None,
        None,
        error=error,
        trigger=options.trigger,
    )


def bug(error: Exception) -> SyncdError:
    """Return the error for an unexpected exception; for a bug of ours, print the traceback
    first.
    """
    found = unexpected(error)
    if isinstance(found, BugError):
        echo(bug_report(error), err=True)
    return found


def show(settings: Settings, report: RunReport, width: int) -> None:
    """Print a finished run; with -v also the error's id, what was left alone, and what
    went to the trash.

    What was done has been said while it was done.
    """
    line = summary_line(report, width, terminal_columns(settings.quiet))
    verbose = settings.verbose > 0
    if report.error is not None and not isinstance(report.error, LockedError):
        lines = [line, *error_lines(report, verbose, settings.quiet)]
        echo("\n".join(lines), err=settings.quiet)
        return
    emit(settings, line)
    if report.error is not None and verbose:
        emit(settings, f"    {id_line(report.error)}")
    if verbose:
        for change in report.changes:
            if change.action is ActionKind.KEEP or change.trash is not None:
                emit(settings, change_line(change, None, terminal_columns()))


@contextmanager
def stop_on_signals(app: AppContext) -> Iterator[None]:
    """Let SIGINT and SIGTERM end every wait.

    What is half written is undone or finished. A second signal ends the process as usual.
    """

    def stop(number: int, _frame: object) -> None:
        """Ask the run to stop, and restore the signal's default."""
        app.stop.set()
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
