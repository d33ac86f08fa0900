"""`syncd verify`: reads every mirrored file and every cached blob again, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from msgspec.structs import asdict, replace

from syncd.cli.common import Settings, chosen_jobs, emit
from syncd.cli.completions import complete_job
from syncd.cli.run_output import count_of
from syncd.clock import SystemClock
from syncd.config.model import Config
from syncd.engine.directories import applied_set, directory_targets, wanted_directories
from syncd.engine.owners import rows_with_current_ids
from syncd.engine.verify import Finding, compare, repair_hint
from syncd.errors import SyncdError
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.symlink_publish import mirror_for
from syncd.models import Job
from syncd.output import echo
from syncd.ports import Mirror, Target
from syncd.store.blobs import BlobCache
from syncd.store.lock import job_lock
from syncd.store.store import SqliteStore
from syncd.stored_jobs import open_store
from syncd.text import json_text, one_line, styled
from syncd.wiring import look_up_owner

EXIT_NOT_IN_SYNC = 3


@click.command(name="verify", short_help="Read every mirrored file and cached blob again.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@click.option(
    "--repair", is_flag=True, help="Mark what is wrong, so that the next run restores it."
)
@click.option(
    "--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.verify/1)."
)
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], repair: bool, as_object: bool) -> int:
    """Hash every file that was mirrored and every blob in the cache, whatever their times say. No
    request is made and nothing is written. With --repair, which only the owner of the state may
    use, files that differ are marked, so that the next run restores them, and damaged blobs leave
    the cache; no mirrored file is touched. Exit 3 when anything differs.
    """
    config = settings.load_read_only()
    chosen = chosen_jobs(config, jobs)
    store = open_store(config, read_only=not repair or not config.state.is_dir())
    try:
        disk = DiskMirror(config.state / "trash", SystemClock())
        look = _repair if repair else _verify
        results = [look(config, job, store, mirror_for(job, disk, SystemClock())) for job in chosen]
    finally:
        store.close()
    checked, damaged = BlobCache(config.state / "blobs").verify(discard_damaged=repair)
    wrong = any(
        result["error"] or any(not one.tolerated for one in result["findings"])
        for result in results
    )
    code = EXIT_NOT_IN_SYNC if wrong or damaged else 0
    if as_object:
        rows = [
            {**result, "findings": [asdict(one) for one in result["findings"]]}
            for result in results
        ]
        blobs = {"checked": checked, "damaged": damaged, "dropped": len(damaged) if repair else 0}
        echo(json_text({"schema": "syncd.verify/1", "exit": code, "jobs": rows, "blobs": blobs}))
        return code
    width = max((len(result["job"]) for result in results), default=0)
    for result in results:
        _show(settings, result, width)
    emit(settings, f"{count_of(checked, 'cached blob')}, {_damage(damaged, repair)}")
    return code


def _damage(damaged: Sequence[str], repaired: bool) -> str:
    if not damaged:
        return "all whole"
    if repaired:
        return f"{len(damaged)} of them damaged and dropped; they are fetched anew when needed"
    return f"{len(damaged)} of them damaged; to drop them: syncd verify --repair"


def _verify(config: Config, job: Job, store: SqliteStore, mirror: Mirror) -> dict[str, Any]:
    recorded = store.load_ledger(job.name)
    findings: list[Finding] = []
    error = None
    try:
        recorded = rows_with_current_ids(recorded, look_up_owner)
        folders = wanted_directories(applied_set(recorded), store.folders(job.name))
        local = mirror.scan(
            {
                path: Target(row.entry.root, replace(row, stat=None))
                for path, row in recorded.items()
            }
            | directory_targets(folders)
        )
        findings = compare(job, recorded, folders, local)
    except SyncdError as failure:
        error = {"kind": failure.kind, "message": failure.message}
    return {
        "job": job.name,
        "commit": store.state(job.name).applied_commit,
        "files": len(recorded),
        "findings": findings,
        "marked": 0,
        "hint": repair_hint(job, findings),
        "error": error,
    }


def _repair(config: Config, job: Job, store: SqliteStore, mirror: Mirror) -> dict[str, Any]:
    """Verify, and mark what is wrong for the next run, under the job's lock."""
    if not store.knows(job.name):
        return _verify(config, job, store, mirror)
    try:
        with job_lock(config.state, job.name):
            result = _verify(config, job, store, mirror)
            paths = [finding.path for finding in result["findings"] if not finding.tolerated]
            if paths:
                result["marked"] = store.require_rehash(job.name, paths)
                result["hint"] = repair_hint(job, result["findings"], marked=True)
    except SyncdError as failure:
        result = _verify(config, job, store, mirror)
        result["error"] = {"kind": failure.kind, "message": failure.message}
    return result


def _show(settings: Settings, result: dict[str, Any], width: int) -> None:
    """Print what was found of one job; `width` is that of the longest job name."""
    findings: list[Finding] = result["findings"]
    wrong = sum(not one.tolerated for one in findings)
    if result["error"]:
        mark = styled("✕", fg="red")
        emit(settings, f"{mark} {result['job']:<{width}}  {result['error']['message']}")
        return
    mark = styled("✕", fg="red") if wrong else styled("✓", fg="green")
    read = f"{result['job']:<{width}}  {count_of(result['files'], 'file')} read"
    emit(settings, f"{mark} {read}{_remedy(wrong, result)}")
    for one in findings:
        emit(
            settings,
            f"    {one.problem:<10} {one_line(one.path)}"
            + ("  (drift: keep)" if one.tolerated else ""),
        )


def _remedy(wrong: int, result: dict[str, Any]) -> str:
    if not wrong:
        return ""
    marked = f", {result['marked']} marked" if result["marked"] else ""
    return f", {wrong:,} differ{'s' * (wrong == 1)}{marked}; {result['hint']}"
