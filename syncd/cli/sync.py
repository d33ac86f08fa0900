"""`syncd sync`: bring the jobs in sync once, side by side; for cron and for hands."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

import click
from msgspec.structs import replace

from syncd.cli.common import Settings, bug_report, chosen_jobs, emit, exit_code, say, utf8
from syncd.cli.run_output import as_json, change_line, closing_line, error_lines, summary_line
from syncd.config.cache import save_cached
from syncd.engine.reload import JobRun, ReloadGroup, run_reload
from syncd.engine.run import Options, run_job
from syncd.engine.worker_pool import WorkerPool
from syncd.errors import BugError, ConfigError, LockedError, SyncdError, unexpected
from syncd.fastpath.snapshot import remove_snapshot, write_snapshot
from syncd.models import Job, RunReport, RunStatus
from syncd.notifications.sender import Messenger
from syncd.output import echo
from syncd.stored_jobs import follow_renames
from syncd.wiring import AppContext, senders

NOTIFY_SECONDS = (
    10.0  # for `notify:`, after the last run; what takes longer is sent by the next sync
)
MAX_FILES_AFTER_CHANGE = 500  # so many are noted even after a change; more only once a run found them at rest, so that a change does not wait for it


@click.command(name="sync", short_help="Bring the jobs in sync once.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option(
    "--ref",
    metavar="REF",
    callback=utf8,
    help="Bring this branch, tag or commit instead, this run only; the jobs must be named.",
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
    type=click.Path(),
    help="Write metrics there for the textfile collector of Prometheus' node exporter.",
)
@click.option(
    "--forget",
    metavar="JOB",
    callback=utf8,
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
    allow_delete: int | None,
    metrics_file: str | None,
    forget: str | None,
    as_object: bool,
) -> int:
    """Bring the named jobs, or all of them, in sync once. A failing job never stops the others.

    Exit: 0 in sync, 3 some failed, 4 GitHub refused who we are, 5 try again later, 6 a limit stopped it, 11 another syncd is at work.
    """
    if ref is not None and not jobs:
        raise ConfigError(
            "--ref changes what a job brings: name the jobs it is for",
            hint=f"syncd sync JOB --ref {ref}",
        )
    config = settings.load_with_cache()
    chosen = chosen_jobs(config, jobs)
    app = AppContext.open(config, settings.environ, replies=settings.replies)
    started_at = app.clock.now()
    try:
        if forget is not None:
            count = app.store.forget(forget)
            follow_renames(config.jobs, app.store)
            say(settings, f"forgot {count} files of {forget}; they stay where they are")
            chosen = [job for job in chosen if job.name != forget or forget in jobs]
        width = max((len(job.name) for job in chosen), default=0)
        messenger = Messenger(
            config, app.store, app.clock, settings.environ, senders(settings.environ)
        )

        def done(report: RunReport) -> None:
            messenger.notify(report)
            if not as_object:
                show(settings, report, width)

        messenger.start()
        try:
            with stop_on_signals(app):
                reports = run_all(app, chosen, Options(ref=ref, allow_delete=allow_delete), done)
        finally:
            messenger.close(NOTIFY_SECONDS)
        code = exit_code(reports)
        if as_object:
            echo(as_json("syncd.sync/1", code, app.request_metrics.totals(), reports))
        elif not settings.quiet:
            echo(closing_line(reports, code, app.request_metrics.totals()))
        if metrics_file is not None:
            code = (
                code if _write_metrics_file(metrics_file, app, reports, started_at) else code or 1
            )
        save_cached(config, settings.environ)
        at_rest = sum(report.files for report in reports) <= MAX_FILES_AFTER_CHANGE or all(
            report.status is RunStatus.UNCHANGED for report in reports
        )
        if code == 0 and ref is None and at_rest and not app.store.notifications.count_pending():
            app.save_rate_limits()
            write_snapshot(app, settings.environ)
        else:
            remove_snapshot(app)  # with that of before, the next run would ask about the refs twice
        return code
    finally:
        app.close()


def _write_metrics_file(
    metrics_file: str, app: AppContext, reports: Sequence[RunReport], started_at: datetime
) -> bool:
    """The metrics of this run are in the file. What keeps them out of it is said; the mirrors are as they are all the same."""
    from syncd.cli.metrics import write_metrics

    try:
        write_metrics(metrics_file, app, reports, started_at)
    except (SyncdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        echo(f"syncd: can't write the metrics to {metrics_file}: {reason}", err=True)
        return False
    return True


def run_all(
    app: AppContext, jobs: Sequence[Job], options: Options, done: Callable[[RunReport], None]
) -> list[RunReport]:
    """Every job has run, and its hook; the reports in the order of the jobs. `done` hears of each as it ends."""
    reloads: ReloadGroup[ExitStack] = ReloadGroup(jobs)
    reports: dict[str, RunReport] = {}

    def one(job: Job, on_waiting: Callable[[bool], None] | None) -> None:
        for report in _run_one(app, job, options, reloads, on_waiting):
            reports[report.job] = report
            done(report)

    if len(jobs) == 1:
        one(jobs[0], None)
    else:
        WorkerPool(app.config.workers, app.rate_limit_key).each(jobs, one)
    return [reports[job.name] for job in jobs]


def _run_one(
    app: AppContext,
    job: Job,
    options: Options,
    reloads: ReloadGroup[ExitStack],
    on_waiting: Callable[[bool], None] | None = None,
) -> list[RunReport]:
    """One run under the job's lock, and then, for the last of those that share an `on_change`, the hook for all of them. The finished reports.

    What can't even begin is a failed report, so that the others go on. A job that owes the hook keeps its lock until it has run.
    """
    deadline, lock, ctx = app.deadline(job, on_waiting=on_waiting), ExitStack(), None
    try:
        made = app.run_context(
            job
        )  # knows a renamed job's former name, which `locked` replaces in the store
        lock.enter_context(app.locked(job))
        ctx = made  # stays None without the lock: a pending reload is the holder's to run
        report = run_job(job, ctx, deadline, options)
    except SyncdError as error:
        report = failed(job, options, error)
    except Exception as error:  # noqa: BLE001  (a bug in one job must not stop the others; the exit is 70 and the traceback is said)
        report = failed(job, options, bug(error))
    if not report.reload_pending:
        lock.close()
    group = reloads.arrive(JobRun(job, ctx, report), lock)
    try:
        return run_reload([member for member, _ in group], deadline)
    except SyncdError as error:
        return [
            replace(member.report, status=RunStatus.FAILED, error=member.report.error or error)
            for member, _ in group
        ]
    except Exception as error:  # noqa: BLE001  (as above)
        return [failed(member.job, options, bug(error)) for member, _ in group]
    finally:
        for _, held in group:
            held.close()


def failed(job: Job, options: Options, error: SyncdError) -> RunReport:
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
    """The error of a job that met what nobody expected. For a mistake of ours the traceback and what to attach are on stderr."""
    found = unexpected(error)
    if isinstance(found, BugError):
        echo(bug_report(error), err=True)
    return found


def show(settings: Settings, report: RunReport, width: int) -> None:
    if report.error is not None and not isinstance(report.error, LockedError):
        echo("\n".join([summary_line(report, width), *error_lines(report)]), err=settings.quiet)
        return
    emit(settings, summary_line(report, width))
    if settings.verbose:
        for change in report.changes:
            emit(settings, change_line(change))


@contextmanager
def stop_on_signals(app: AppContext) -> Iterator[None]:
    """SIGINT and SIGTERM end every wait; what is half written is undone or finished. A second one ends the process as usual."""

    def stop(number: int, _frame: object) -> None:
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
