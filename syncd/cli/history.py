"""`syncd history`: what past runs did."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import click
from msgspec import Struct
from msgspec.structs import asdict

from syncd.cli.common import Settings, chosen_jobs, emit, emit_folded, require_utf8
from syncd.cli.completions import complete_job, complete_path
from syncd.cli.diffs import HIDDEN, diff_lines, note
from syncd.cli.folder_counts import MAX_LISTED, count_by_folder
from syncd.cli.past_content import PastContent
from syncd.cli.run_output import MARK, count_of
from syncd.cli.trash_entries import entry_of, short_ids_in
from syncd.models import Job
from syncd.output import echo
from syncd.recent_runs import parse_time
from syncd.status import rfc3339
from syncd.store.actions import OperatorAction
from syncd.store.history import PastChange, PastRun
from syncd.stored_jobs import open_store, spellings_in_history
from syncd.text import json_text, one_line, styled

MARKS = {status.value: styled(*mark) for status, mark in MARK.items()}


class View(Struct, frozen=True):
    """What a run is shown with: the jobs, the names of trash entries, and contents for --diff."""

    settings: Settings
    jobs: Mapping[str, Job]
    names: Mapping[str, str]
    past: PastContent | None
    show_secrets: bool


@click.command(name="history", short_help="What past runs did.")
@click.argument("job", required=False, shell_complete=complete_job)
@click.option(
    "--path",
    metavar="PATH",
    callback=require_utf8,
    shell_complete=complete_path,
    help="Only what happened to this destination.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many entries at most.",
)
@click.option(
    "--diff",
    is_flag=True,
    help=(
        "Show the lines that changed, as far as both versions are kept (of files that everyone may"
        " read)."
    ),
)
@click.option(
    "--show-secrets", is_flag=True, help="With --diff: also of files that not everyone may read."
)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.history/1)."
)
@click.pass_obj
def command(
    settings: Settings,
    job: str | None,
    path: str | None,
    limit: int,
    diff: bool,
    show_secrets: bool,
    as_object: bool,
) -> int:
    """Show past runs that changed something or failed, and what people did on the status page, the
    newest first.

    Many changes of one kind are counted by folder; -v lists each.
    """
    config = settings.load_read_only(
        members=not diff
    )  # the lines are the cache's, which is no member's to read
    if job is not None:
        chosen_jobs(config, [job])
    store = open_store(config, read_only=True)
    try:
        spellings = spellings_in_history(store, os.path.abspath(path)) if path is not None else []
        runs = store.history(job, path, limit, spellings)
        actions = store.actions_of(job, limit) if path is None else []
        past = PastContent(config, store, {run.job for run in runs}) if diff else None
    finally:
        store.close()
    names = short_ids_in(config.state)
    if as_object:
        rows = [_row(run, names) for run in runs]
        done = [_action_row(one) for one in actions]
        echo(json_text({"schema": "syncd.history/1", "runs": rows, "actions": done}))
        return 0
    view = View(settings, config.jobs, names, past, show_secrets)
    for one in by_time(runs, actions, limit):
        if isinstance(one, OperatorAction):
            emit(settings, f"◆ {rfc3339(one.at)}  {one.job}  {one_line(one.describe())}")
            continue
        _show(settings, one)
        _show_changes(view, one)
    if not runs and not actions:
        emit(settings, "Nothing happened yet" + (f" to {path}" if path else "") + ".")
    return 0


def _show_changes(view: View, run: PastRun) -> None:
    """Print each change. Many of one kind are counted by folder, except for -v and --diff."""
    listed, counted = _split(view, run)
    for change in listed:
        emit(view.settings, f"    {change.action:<8} {one_line(change.path)}")
        entry = entry_of(change, view.names)
        if entry is not None:
            emit(view.settings, f"             → syncd trash restore {view.names[entry]}")
        if view.past is not None:
            for line in _diff(run.job, change, view.past, view.show_secrets):
                emit(view.settings, line)
    for action, folder, count in counted:
        number = styled(count_of(count, "file"), dim=True)
        emit(view.settings, f"    {action:<8} {one_line(folder)}  {number}")


def _split(view: View, run: PastRun) -> tuple[list[PastChange], list[tuple[str, str, int]]]:
    """Return the changes to list, and (action, folder, count) of those that are only counted.

    What has an entry in the trash is listed with the command that restores it.
    """
    if view.settings.verbose or view.past is not None:
        return list(run.changes), []
    paths: dict[str, list[str]] = {}
    for change in run.changes:
        if entry_of(change, view.names) is None:
            paths.setdefault(change.action, []).append(change.path)
    many = {action: found for action, found in paths.items() if len(found) > MAX_LISTED}
    counted = [
        (action, *folder)
        for action, found in many.items()
        for folder in count_by_folder(view.jobs.get(run.job), found)
    ]
    hidden = {(action, path) for action, found in many.items() for path in found}
    return [one for one in run.changes if (one.action, one.path) not in hidden], counted


def by_time(
    runs: Sequence[PastRun], actions: Sequence[OperatorAction], limit: int
) -> list[PastRun | OperatorAction]:
    """Return runs and actions together, newest first, and at most `limit` of them."""
    found: list[tuple[str, PastRun | OperatorAction]] = [(run.started_at, run) for run in runs]
    found += [(one.at.isoformat(), one) for one in actions]
    newest = sorted(found, key=lambda one: one[0], reverse=True)
    return [one for _, one in newest[:limit]]


def _action_row(one: OperatorAction) -> dict[str, object]:
    return {
        "job": one.job,
        "action": one.action,
        "at": rfc3339(one.at),
        "user": one.by.user,
        "client": one.by.client,
        "reason": one.reason,
        "until": rfc3339(one.until),
    }


def _row(run: PastRun, names: Mapping[str, str]) -> dict[str, object]:
    row = asdict(run)
    row["started_at"] = rfc3339(parse_time(run.started_at)) or run.started_at
    first = run.first_started_at or run.started_at
    row["first_started_at"] = rfc3339(parse_time(first)) or first
    row["changes"] = [
        {
            "action": change.action,
            "path": change.path,
            "from": change.source,
            "before": change.before,
            "after": change.after,
            "trash": entry_of(change, names),
        }
        for change in run.changes
    ]
    return row


def _show(settings: Settings, run: PastRun) -> None:
    moved = (
        f"{run.previous[:7]} → {run.commit[:7]}"
        if run.previous and run.commit and run.previous != run.commit
        else (run.commit or "-")[:7]
    )
    emit(
        settings,
        f"{MARKS.get(run.status, '?')} {run.started_at[:19]}Z  {run.job}  {moved}  {run.trigger} "
        f" {count_of(len(run.changes), 'change')}  {run.seconds:.1f} s",
    )
    if run.went_back:
        emit(settings, f"    went back to {(run.commit or '')[:7]}, which had been applied before")
    if run.overrode:
        emit(settings, f"    applied with --now, which would have waited {run.overrode}")
    if run.error:
        first, *more = run.error.split("\n")
        emit_folded(settings, f"{run.error_kind}: {first}", "    ")
        for line in more:
            emit(settings, line)


def _diff(job: str, change: PastChange, past: PastContent, show_secrets: bool) -> list[str]:
    """Return the changed lines, where everyone may read both versions."""
    if change.before == change.after:
        return []
    if not show_secrets and not past.is_public(job, change):
        return [note(HIDDEN)]
    return diff_lines(past.read(change.before), past.read(change.after), show_secrets)
