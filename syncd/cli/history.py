"""`syncd history`: what past runs did."""

from __future__ import annotations

import os

import click
from msgspec.structs import asdict

from syncd.cli.common import Settings, chosen_jobs, emit, utf8
from syncd.cli.diffs import HIDDEN, diff_lines, note
from syncd.cli.run_output import count_of
from syncd.diff import MAX_BYTES, readable_by_all
from syncd.models import LedgerRow
from syncd.output import echo
from syncd.store.blobs import BlobCache
from syncd.store.history import PastChange, PastRun
from syncd.store.read_only_cache import ReadOnlyCache
from syncd.stored_jobs import open_store, spellings_in_history
from syncd.text import json_text, one_line

MARKS = {"changed": "✓", "unchanged": "✓", "skipped": "‖", "failed": "✕", "refused": "✕"}


@click.command(name="history", short_help="What past runs did.")
@click.argument("job", required=False)
@click.option(
    "--path", metavar="PATH", callback=utf8, help="Only what happened to this destination."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many runs at most.",
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
    """Show past runs that changed something or failed, the newest first."""
    config = settings.load_read_only(
        members=not diff
    )  # the lines are the cache's, which is no member's to read
    if job is not None:
        chosen_jobs(config, [job])
    store = open_store(config, read_only=True)
    try:
        spellings = spellings_in_history(store, os.path.abspath(path)) if path is not None else []
        runs = store.history(job, path, limit, spellings)
        recorded = (
            {name: store.load_ledger(name) for name in {run.job for run in runs}} if diff else {}
        )
    finally:
        store.close()
    if as_object:
        echo(json_text({"schema": "syncd.history/1", "runs": [_row(run) for run in runs]}))
        return 0
    blobs = ReadOnlyCache(config.state / "blobs")
    for run in runs:
        _show(settings, run)
        for change in run.changes:
            emit(settings, f"    {change.action:<8} {one_line(change.path)}")
            for line in (
                _diff(change, recorded.get(run.job, {}), blobs, show_secrets) if diff else ()
            ):
                emit(settings, line)
    if not runs:
        emit(settings, "Nothing happened yet" + (f" to {path}" if path else "") + ".")
    return 0


def _row(run: PastRun) -> dict[str, object]:
    row = asdict(run)
    row["changes"] = [
        {
            "action": change.action,
            "path": change.path,
            "from": change.source,
            "before": change.before,
            "after": change.after,
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
    if run.error:
        emit(settings, f"    {run.error_kind}: {run.error}")


def _diff(
    change: PastChange, recorded: dict[str, LedgerRow], blobs: BlobCache, show_secrets: bool
) -> list[str]:
    """Return the changed lines.

    A file that is not mirrored any more has no mode that says who may read it: it is hidden as
    well.
    """
    row = recorded.get(change.path)
    if change.before == change.after:
        return []
    if not show_secrets and (row is None or not readable_by_all(row.entry.mode)):
        return [note(HIDDEN)]
    return diff_lines(
        blobs.read_prefix(change.before, MAX_BYTES + 1),
        blobs.read_prefix(change.after, MAX_BYTES + 1),
        show_secrets,
    )
