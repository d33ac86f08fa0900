"""`syncd plan`: what a sync would do now, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from syncd.cli.common import Settings, chosen_jobs, emit, exit_code, say
from syncd.cli.diffs import HIDDEN, diff_lines, note
from syncd.cli.run_output import MARK, as_json, change_line, cost_of, error_lines, sign_of
from syncd.cli.sync import failed, stop_on_signals
from syncd.diff import MAX_BYTES, readable_by_all
from syncd.engine.apply import stage
from syncd.engine.hook_state import shown_command
from syncd.engine.run import Decision, Options, plan_job
from syncd.errors import SyncdError
from syncd.models import Action, ActionKind, Job, Kind, RunReport, RunStatus
from syncd.output import echo
from syncd.ports import JobState
from syncd.text import styled
from syncd.wiring import AppContext

EXIT_CHANGES = 10
WORDS = {
    "+": "to add",
    "~": "to change",
    "!": "to put back",
    "%": "to set right",
    "-": "to remove",
    "=": "left alone",
}


@click.command(name="plan", short_help="What a sync would do now.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option(
    "--diff",
    is_flag=True,
    help="Show the lines that would change (of files that everybody may read).",
)
@click.option(
    "--show-secrets", is_flag=True, help="With --diff: also of files that not everybody may read."
)
@click.option("--exit-code", is_flag=True, help="Exit 10 when there are changes.")
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
    as_object: bool,
) -> int:
    """Show what `syncd sync` would do now. Nothing is written and no lock is taken."""
    config = settings.load_read_only(
        members=not diff
    )  # the lines are the cache's, which is no member's to read
    chosen = chosen_jobs(config, jobs)
    app = AppContext.open(config, settings.environ, read_only=True)
    try:
        with stop_on_signals(app), app.blobs.shared_lock():
            return _planned(settings, app, chosen, diff, show_secrets, exit_code, as_object)
    finally:
        app.close()


def _planned(
    settings: Settings,
    app: AppContext,
    jobs: Sequence[Job],
    diff: bool,
    show_secrets: bool,
    exit_code: bool,
    as_object: bool,
) -> int:
    """The plans of all jobs, made side by side, are printed; the exit code."""
    with ThreadPoolExecutor(max_workers=max(1, min(app.config.workers, len(jobs)))) as pool:
        found = list(pool.map(lambda job: _plan(app, job), jobs))
    reports = [report for report, _ in found]
    code = _code(reports, exit_code)
    if as_object:
        echo(as_json("syncd.plan/1", code, app.request_metrics.totals(), reports))
        return code
    for job, (report, decision) in zip(jobs, found, strict=True):
        _show(settings, app, job, report, decision, diff, show_secrets)
    _close(settings, reports, app)
    return code


def _plan(app: AppContext, job: Job) -> tuple[RunReport, Decision | None]:
    try:
        return plan_job(job, app.run_context(job), app.deadline(job))
    except SyncdError as error:
        return failed(job, Options(), error), None


def _code(reports: list[RunReport], wants_changes: bool) -> int:
    code = exit_code(reports)
    if (
        code == 0
        and wants_changes
        and any(report.status is RunStatus.CHANGED for report in reports)
    ):
        return EXIT_CHANGES
    return code


def _show(
    settings: Settings,
    app: AppContext,
    job: Job,
    report: RunReport,
    decision: Decision | None,
    diff: bool,
    show_secrets: bool,
) -> None:
    commit = (report.commit or "")[:7]
    moved = (
        f"{report.previous[:7]} → {commit}"
        if report.previous and report.commit and report.previous != report.commit
        else commit or "-"
    )
    mark, colour = MARK[report.status]
    emit(
        settings,
        f"{styled(mark, fg=colour)} {report.job}  {report.repo}@{report.ref or 'HEAD'}  {moved}"
        + ("  in sync" if report.status is RunStatus.UNCHANGED else ""),
    )
    if report.error is not None:
        echo("\n".join([f"    {report.error.message}", *error_lines(report)]), err=settings.quiet)
        if decision is None:
            return
    if decision is not None and diff:
        stage(
            job,
            decision.commit,
            decision.plan,
            decision.remote,
            app.run_context(job).source,
            app.blobs,
            app.deadline(job),
        )
    actions = {action.path: action for action in decision.plan.actions} if decision else {}
    for change in report.changes:
        emit(
            settings,
            change_line(
                change,
                None if diff or change.path not in actions else _detail(actions[change.path]),
            ),
        )
        if diff and change.path in actions:
            for line in _diff(app, job, actions[change.path], show_secrets):
                emit(settings, line)
    hooks = _hooks(job, report, app.store.state(job.name))
    if hooks:
        emit(settings, styled(f"  {hooks}", dim=True))


def _detail(action: Action) -> str | None:
    """What a new file will be; of everything else, why it is done."""
    want = action.wanted
    if (
        action.kind is not ActionKind.WRITE
        or action.expected is not None
        or want is None
        or want.kind is not Kind.FILE
        or want.size is None
    ):
        return action.reason
    return f"{want.size:,} B  {want.mode:04o}"


def _hooks(job: Job, report: RunReport, state: JobState) -> str:
    """The commands that a sync would run now; empty for none."""
    changes = any(change.action is not ActionKind.KEEP for change in report.changes)
    parts = (
        [f"validate `{shown_command(job.validate)}`"]
        if job.validate is not None and changes
        else []
    )
    if job.on_change is not None and (changes or state.reload_pending):
        parts.append(
            f"on_change `{shown_command(job.on_change)}`"
            + (" (owed by an earlier run)" if state.reload_pending else "")
        )
    return f"hooks: {', then '.join(parts)}" if parts else ""


def _diff(app: AppContext, job: Job, action: Action, show_secrets: bool) -> list[str]:
    """The lines that change, for text that its readers may see anyway."""
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


def _close(settings: Settings, reports: list[RunReport], app: AppContext) -> None:
    signs = [sign_of(change) for report in reports for change in report.changes]
    parts = [f"{signs.count(sign)} {words}" for sign, words in WORDS.items() if sign in signs]
    totals = app.request_metrics.totals()
    left = [one.view.remaining for one in app.observed_limits() if one.view.remaining is not None]
    emit(
        settings,
        f"Plan: {', '.join(parts) or 'nothing to do'}. {cost_of(totals)}"
        + (f", {min(left):,} left." if left else "."),
    )
    if any(report.error for report in reports):
        say(settings, "Some jobs could not be planned; see above.")
