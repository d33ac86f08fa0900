"""`syncd status`: how every job stands, from the store alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from syncd.cli.common import Settings, chosen_jobs, emit
from syncd.cli.table import table
from syncd.config.model import Config
from syncd.engine.hooks import named
from syncd.engine.ports import JobState
from syncd.models import Job
from syncd.store.lock import is_held
from syncd.store.store import SqliteStore

ORDER = ("failing", "drift", "paused", "never", "in_step")
COLOUR = {"failing": "red", "drift": "yellow", "paused": "cyan", "never": "cyan", "in_step": "green"}
EXIT_NOT_IN_STEP = 3
LOOKS = 3  # a run may end between the look at its state and the look at its lock


@click.command(name="status", short_help="How every job stands.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.status/1).")
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], as_object: bool) -> int:
    """Show how every job stands: what it holds, when it last ran, what is wrong. Exit 3 when not everything is in step."""
    config = settings.load()
    chosen = chosen_jobs(config, jobs)
    store = SqliteStore.peek(config.state)
    try:
        rows = [as_row(job, _state(job, store, config.state), store) for job in chosen]
        budgets = store.budgets()
    finally:
        store.close()
    identities = [
        {"identity": name, "limit": row.limit if row else None, "remaining": row.remaining if row else None, "reset": _rfc3339(datetime.fromisoformat(row.reset_at)) if row and row.reset_at else None}
        for name in config.identities
        for row in (budgets.get(name),)
    ]
    if as_object:
        click.echo(json.dumps({"schema": "syncd.status/1", "jobs": rows, "identities": identities}))
    else:
        _show(settings, config, rows)
    return 0 if all(row["state"] == "in_step" for row in rows) else EXIT_NOT_IN_STEP


def _state(job: Job, store: SqliteStore, state_dir: Path) -> JobState:
    """The job's state; of one whose run is under way as it was before: what the run has begun is no failure of anybody's."""
    for _ in range(LOOKS):
        state = store.state(job.name)
        if state.settled and not state.hook_owed:
            return state
        if is_held(state_dir, job.name):
            return replace(state, settled=True, hook_owed=False)
    return state  # the same each time, and nobody at work: it was interrupted, or its reload is owed


def state_of(state: JobState, now: datetime) -> str:
    """One of `in_step`, `drift`, `failing`, `paused`, `never`."""
    if state.paused(now):
        return "paused"
    if state.failures or state.last_error_kind is not None:
        return "failing"
    if state.last_success_at is None:
        return "never"
    if state.drifted:
        return "drift"
    return "failing" if state.hook_owed or not state.settled else "in_step"


def as_row(job: Job, state: JobState, store: SqliteStore) -> dict[str, Any]:
    now = datetime.now(UTC)
    following = state.last_run_at + timedelta(seconds=job.every_seconds) if state.last_run_at is not None and job.every_seconds else None
    return {
        "job": job.name,
        "state": state_of(state, now),
        "commit": state.applied_commit,
        "last_run": _rfc3339(state.last_run_at),
        "last_success": _rfc3339(state.last_success_at),
        "next_run": _rfc3339(following),
        "files": len(store.recorded(job.name)),
        "drifted": state.drifted,
        "hook_owed": state.hook_owed,
        "paused": ("held after a rollback" if state.held else state.paused_reason) if state.paused(now) else None,
        "error": None if state.last_error_kind is None else {"kind": state.last_error_kind, "message": state.last_error},
    }


def _show(settings: Settings, config: Config, rows: list[dict[str, Any]]) -> None:
    lines = [["STATE", "JOB", "SOURCE", "MIRROR", "COMMIT", "FILES", "LAST SUCCESS"]]
    for row in sorted(rows, key=lambda row: ORDER.index(row["state"])):
        job = config.jobs[row["job"]]
        mirror = job.paths[0].to + (f" (+{len(job.paths) - 1})" if len(job.paths) > 1 else "")
        lines.append([row["state"].replace("_", " "), row["job"], f"{job.repo}@{job.ref or 'HEAD'}", mirror, (row["commit"] or "-")[:7], str(row["files"]), _ago(row["last_success"])])
    for number, text in enumerate(table(lines)):
        state = lines[number][0].replace(" ", "_")
        emit(settings, click.style(text, bold=True) if number == 0 else text.replace(lines[number][0], click.style(lines[number][0], fg=COLOUR.get(state)), 1))
    for row in rows:
        if row["error"]:
            emit(settings, f"  {row['job']}: {row['error']['message']}")
        if row["hook_owed"]:
            hook = config.jobs[row["job"]].on_change
            emit(settings, f"  {row['job']}: on_change is owed" + (f": {named(hook)}" if hook is not None else ""))
        if row["drifted"]:
            emit(settings, f"  {row['job']}: {row['drifted']} file(s) differ from what was mirrored; see syncd plan {row['job']}")


def _ago(text: str | None) -> str:
    if text is None:
        return "never"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} ago"
    return f"{max(0, int(seconds))}s ago"


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
