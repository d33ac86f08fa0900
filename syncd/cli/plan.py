"""`syncd plan`: shows what a sync would do now, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click
from msgspec import Struct

from syncd.cli.common import Settings, chosen_jobs, emit, emit_folded, exit_code, say
from syncd.cli.completions import complete_job
from syncd.cli.diffs import HIDDEN, diff_lines, note
from syncd.cli.folder_counts import split_removals
from syncd.cli.folding import fold, terminal_columns
from syncd.cli.progress import RunProgress, progress_of
from syncd.cli.run_output import (
    MARK,
    as_json,
    change_line,
    commits_of,
    cost_of,
    count_of,
    error_lines,
    sign_of,
)
from syncd.cli.sync import failed, stop_on_signals
from syncd.diff import MAX_BYTES, readable_by_all
from syncd.engine.apply import stage
from syncd.engine.commit_contents import CommitContents
from syncd.engine.context import Options
from syncd.engine.decision import Decision
from syncd.engine.hook_result import shown_command
from syncd.engine.run import plan_job
from syncd.errors import SyncdError
from syncd.models import Action, ActionKind, Job, Kind, RunReport, RunStatus
from syncd.output import echo
from syncd.ports import JobState
from syncd.status import duration
from syncd.text import one_line, shortened, styled
from syncd.wiring import AppContext, ConnectionOptions

EXIT_CHANGES = 10
MAX_SUBJECT, MAX_AUTHOR = 60, 30  # characters
WORDS = {
    "+": "to add",
    "~": "to change",
    "!": "to put back",
    "%": "to set right",
    "-": "to remove",
    "=": "left alone",
}


class PlanOptions(Struct, frozen=True):
    """The options of the command."""

    diff: bool
    show_secrets: bool
    exit_code: bool
    allow_delete: int | None
    as_object: bool


class PlannedJob(Struct, frozen=True):
    """One job with its report, and with its decision unless planning failed."""

    job: Job
    report: RunReport
    decision: Decision | None


@click.command(name="plan", short_help="What a sync would do now.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@click.option(
    "--diff",
    is_flag=True,
    help="Show the lines that would change (of files that everyone may read).",
)
@click.option(
    "--show-secrets", is_flag=True, help="With --diff: also of files that not everyone may read."
)
@click.option("--exit-code", is_flag=True, help="Exit 10 when there are changes.")
@click.option(
    "--allow-delete",
    type=click.IntRange(0),
    metavar="N",
    help="Plan as `sync --allow-delete N` would.",
)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.plan/1)."
)
@click.pass_obj
def command(
    settings: Settings,
    jobs: tuple[str, ...],
    diff: bool,
    show_secrets: bool,
    exit_code: bool,
    allow_delete: int | None,
    as_object: bool,
) -> int:
    """Show what `syncd sync` would do now. Nothing is written and no lock is taken.

    The plan is shown also when a sync would refuse it (a limit, a rejected commit), and of jobs on
    hold. Many removals are counted by folder; -v lists each.
    """
    # the lines come from the cache, which members of state_group may not read
    config = settings.load_read_only(members=not diff)
    chosen = chosen_jobs(config, jobs)
    options = PlanOptions(diff, show_secrets, exit_code, allow_delete, as_object)
    app = AppContext.open(config, settings.environ, options=ConnectionOptions(read_only=True))
    try:
        with (
            stop_on_signals(app),
            app.blobs.shared_lock(),
            progress_of(settings, app, len(chosen)) as progress,
        ):
            return _plan_all(settings, app, chosen, options, progress)
    finally:
        app.close()


def _plan_all(
    settings: Settings,
    app: AppContext,
    jobs: Sequence[Job],
    options: PlanOptions,
    progress: RunProgress,
) -> int:
    """Plan all jobs at once, print the plans, and return the exit code."""

    def plan(job: Job) -> PlannedJob:
        try:
            return _plan(app, job, options)
        finally:
            progress.finished(job.name)

    with ThreadPoolExecutor(max_workers=max(1, min(app.config.workers, len(jobs)))) as pool:
        planned = list(pool.map(plan, jobs))
    reports = [one.report for one in planned]
    code = _code(reports, options.exit_code)
    if options.as_object:
        echo(as_json("syncd.plan/1", code, app.request_metrics.totals(), reports))
        return code
    width = max((len(job.name) for job in jobs), default=0)
    for one in planned:
        _show(settings, app, one, options, width)
    _show_totals(settings, reports, app)
    return code


def _plan(app: AppContext, job: Job, asked: PlanOptions) -> PlannedJob:
    options = Options(allow_delete=asked.allow_delete)
    try:
        return PlannedJob(job, *plan_job(job, app.run_context(job), app.deadline(job), options))
    except SyncdError as error:
        return PlannedJob(job, failed(job, Options(), error), None)


def _code(reports: list[RunReport], changes_count: bool) -> int:
    code = exit_code(reports)
    changed = any(report.status is RunStatus.CHANGED for report in reports)
    return EXIT_CHANGES if code == 0 and changes_count and changed else code


def _show(
    settings: Settings, app: AppContext, planned: PlannedJob, options: PlanOptions, width: int
) -> None:
    """Print the plan of one job: its heading, error, changes and hooks.

    `width` is that of the longest job name.
    """
    report, decision, columns = planned.report, planned.decision, terminal_columns()
    emit(settings, _heading(report, width, columns))
    for note_line in report.notes:
        emit_folded(settings, note_line, "    ")
    if report.error is not None:
        err = settings.quiet
        first, *more = report.error.message.split("\n")
        lines = [*fold(first, terminal_columns(err), "    "), *more]
        echo("\n".join([*lines, *error_lines(report, settings.verbose > 0, err)]), err=err)
    if decision is None:
        return
    _show_changes(settings, app, planned, decision, options)
    hooks = _hooks(planned.job, report, app.store.state(planned.job.name))
    if hooks:
        for line in fold(hooks, columns, "    ", "  "):
            emit(settings, styled(line, dim=True))


def _show_changes(
    settings: Settings,
    app: AppContext,
    planned: PlannedJob,
    decision: Decision,
    options: PlanOptions,
) -> None:
    """Print each change, with its lines for --diff. Many removals are counted by folder."""
    shows_lines = options.diff and decision.limit is None
    if shows_lines:
        _fetch_content(app, planned.job, decision)
    actions = {action.path: action for action in decision.plan.actions}
    listed, folders = split_removals(planned.job, planned.report.changes, settings.verbose > 0)
    for change in listed:
        action = actions[change.path]
        detail = _detail(action, options.diff)
        emit(settings, change_line(change, detail, terminal_columns()))
        for line in _diff(app, planned.job, action, options.show_secrets) if shows_lines else ():
            emit(settings, line)
    for folder, count in folders:
        sign = styled("  - ", fg="red")
        emit(settings, f"{sign}{one_line(folder)}  {styled(count_of(count, 'file'), dim=True)}")


def _heading(report: RunReport, width: int, columns: int | None) -> str:
    """Return the line that names the job, its source, its commits and who made the last one.

    That is on a line of its own if it does not fit into the columns.
    """
    mark, colour = MARK[report.status]
    unchanged = "  in sync" if report.status is RunStatus.UNCHANGED else ""
    source = f"{report.repo}@{report.ref or 'HEAD'}"
    heading = f"{mark} {report.job:<{width}}  {source}  {commits_of(report)}{unchanged}"
    summary = report.commit_summary
    if summary is not None:
        author = shortened(summary.author, MAX_AUTHOR) or "unknown author"
        made = f"{author}: {shortened(summary.subject, MAX_SUBJECT)}"
        fits = columns is None or len(f"{heading}  {made}") <= columns
        heading += f"  {made}" if fits else f"\n    {made}"
    return styled(mark, fg=colour) + heading.removeprefix(mark)


def _fetch_content(app: AppContext, job: Job, decision: Decision) -> None:
    """Bring the content that the plan would write into the cache."""
    source = app.run_context(job).source
    contents = CommitContents(job, decision.commit, source, app.blobs, app.deadline(job))
    stage(contents, decision.plan, decision.remote)


def _detail(action: Action, has_lines: bool) -> str | None:
    """Return size and mode of a new file; for everything else, and with lines below, the reason."""
    want = action.wanted
    if (
        has_lines
        or action.kind is not ActionKind.WRITE
        or action.expected is not None
        or want is None
        or want.kind is not Kind.FILE
        or want.size is None
    ):
        return action.reason + _goes_to_trash(action)
    return f"{want.size:,} B  {want.mode:04o}"


def _goes_to_trash(action: Action) -> str:
    """Return the end of a line for a file that syncd replaces and never wrote."""
    here = action.expected
    is_kept = action.replaces_foreign and here is not None and here.kind in (Kind.FILE, Kind.LINK)
    return " (your version goes to the trash)" if is_kept else ""


def _hooks(job: Job, report: RunReport, state: JobState) -> str:
    """Return the line of commands that a sync would run now; empty if there are none."""
    changes = any(change.action is not ActionKind.KEEP for change in report.changes)
    parts = (
        [f"validate `{shown_command(job.validate)}`"]
        if job.validate is not None and changes
        else []
    )
    if job.on_change is not None and (changes or state.pending_reload is not None):
        parts.append(
            f"on_change `{shown_command(job.on_change)}`"
            + (" (pending from an earlier run)" if state.pending_reload is not None else "")
        )
    if job.health is not None and (changes or state.pending_health is not None):
        seconds = duration(job.health.window_seconds)
        parts.append(
            f"health `{shown_command(job.health.command)}` for {seconds}"
            + (" (being checked)" if state.pending_health is not None else "")
        )
    return f"hooks: {', then '.join(parts)}" if parts else ""


def _diff(app: AppContext, job: Job, action: Action, show_secrets: bool) -> list[str]:
    """Return the changed lines, if everyone who can read the file may see them."""
    want, have = action.wanted, action.expected
    if (
        action.kind not in (ActionKind.WRITE, ActionKind.RESTORE)
        or want is None
        or want.kind is not Kind.FILE
    ):
        return []
    if not show_secrets and not (
        readable_by_all(want.mode) and (have is None or readable_by_all(have.mode))
    ):
        return [note(HIDDEN)]
    old = _content_on_disk(app, job, action) if have is not None and have.kind is Kind.FILE else b""
    with app.blobs.open(want.blob) as content:
        new = content.read(MAX_BYTES + 1)
    return diff_lines(old, new, show_secrets)


def _content_on_disk(app: AppContext, job: Job, action: Action) -> bytes | None:
    try:
        with app.mirror_for(job).open(
            action.path, action.wanted.root if action.wanted else "/"
        ) as content:
            return content.read(MAX_BYTES + 1)
    except (SyncdError, OSError):
        return None


def _show_totals(settings: Settings, reports: list[RunReport], app: AppContext) -> None:
    done = [report for report in reports if report.status is not RunStatus.SKIPPED]
    signs = [sign_of(change) for report in done for change in report.changes]
    parts = [f"{signs.count(sign)} {words}" for sign, words in WORDS.items() if sign in signs]
    totals = app.request_metrics.totals()
    left = [one.view.remaining for one in app.observed_limits() if one.view.remaining is not None]
    emit_folded(
        settings,
        f"Plan: {', '.join(parts) or 'nothing to do'}. {cost_of(totals)}"
        + (f", {min(left):,} left." if left else "."),
    )
    if any(report.error for report in reports):
        say(settings, "syncd sync would refuse or fail some jobs; see above.")
