"""`syncd history`: what past runs did."""

from __future__ import annotations

import dataclasses
import json

import click

from syncd.cli.common import Settings, chosen_jobs, emit
from syncd.cli.reports import printable
from syncd.store.rows import PastRun
from syncd.store.store import SqliteStore

MARKS = {"changed": "✓", "unchanged": "✓", "skipped": "‖", "failed": "✕", "refused": "✕"}


@click.command(name="history", short_help="What past runs did.")
@click.argument("job", required=False)
@click.option("--path", metavar="PATH", help="Only what happened to this destination.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N", help="How many runs at most.")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.history/1).")
@click.pass_obj
def command(settings: Settings, job: str | None, path: str | None, limit: int, as_object: bool) -> int:
    """Show past runs that changed something or failed, the newest first."""
    config = settings.load()
    if job is not None:
        chosen_jobs(config, [job])
    store = SqliteStore.peek(config.state)
    try:
        runs = store.history(job, path, limit)
    finally:
        store.close()
    if as_object:
        click.echo(json.dumps({"schema": "syncd.history/1", "runs": [_row(run) for run in runs]}))
        return 0
    for run in runs:
        _show(settings, run)
    if not runs:
        emit(settings, "Nothing happened yet" + (f" to {path}" if path else "") + ".")
    return 0


def _row(run: PastRun) -> dict[str, object]:
    row = dataclasses.asdict(run)
    row["changes"] = [{"action": change.action, "path": change.path, "from": change.source, "before": change.before, "after": change.after} for change in run.changes]
    return row


def _show(settings: Settings, run: PastRun) -> None:
    moved = f"{run.previous[:7]} → {run.commit[:7]}" if run.previous and run.commit and run.previous != run.commit else (run.commit or "-")[:7]
    emit(settings, f"{MARKS.get(run.status, '?')} {run.started_at[:19]}Z  {run.job}  {moved}  {run.trigger}  {len(run.changes)} change(s)  {run.seconds:.1f} s")
    for change in run.changes:
        emit(settings, f"    {change.action:<8} {printable(change.path)}")
    if run.error:
        emit(settings, f"    {run.error_kind}: {printable(run.error)}")
