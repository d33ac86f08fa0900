"""`syncd verify`: read every mirrored file and every cached blob again, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import click
from msgspec.structs import asdict, replace

from syncd.cli.common import Settings, chosen_jobs, emit
from syncd.cli.reports import count_of, printable
from syncd.clock import SystemClock
from syncd.engine.folders import set_of, targets, wished
from syncd.engine.owners import rows_as_numbered_now
from syncd.engine.ports import Mirror, Target
from syncd.engine.verify import Finding, compare
from syncd.errors import SyncdError
from syncd.mirror.disk import DiskMirror
from syncd.mirror.switch import mirror_of
from syncd.models import Job
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from syncd.stored_jobs import open_store
from syncd.wiring import look_up_owner

EXIT_NOT_IN_STEP = 3


@click.command(name="verify", short_help="Read every mirrored file and cached blob again.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object (schema syncd.verify/1).")
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], as_object: bool) -> int:
    """Hash every file that was mirrored and every blob in the cache, whatever their times say. No request is made and no mirror is
    touched; damaged blobs leave the cache and are fetched anew when they are needed. Exit 3 when anything differs.
    """
    config = settings.load_to_look()
    chosen = chosen_jobs(config, jobs)
    store = open_store(config, only_look=True)
    try:
        disk = DiskMirror(config.state / "trash", SystemClock())
        results = [_verify(job, store, mirror_of(job, disk, SystemClock())) for job in chosen]
    finally:
        store.close()
    checked, damaged = BlobCache(config.state / "blobs").verify()
    wrong = any(result["error"] or any(not one.tolerated for one in result["findings"]) for result in results)
    code = EXIT_NOT_IN_STEP if wrong or damaged else 0
    if as_object:
        rows = [{**result, "findings": [asdict(one) for one in result["findings"]]} for result in results]
        click.echo(json.dumps({"schema": "syncd.verify/1", "exit": code, "jobs": rows, "blobs": {"checked": checked, "damaged": damaged}}))
        return code
    for result in results:
        _show(settings, result)
    emit(settings, f"{checked} cached blobs" + (f", {len(damaged)} of them damaged and dropped; they are fetched anew when needed" if damaged else ", all whole"))
    return code


def _verify(job: Job, store: SqliteStore, mirror: Mirror) -> dict[str, Any]:
    recorded = store.recorded(job.name)
    findings: list[Finding] = []
    error = None
    try:
        recorded = rows_as_numbered_now(recorded, look_up_owner)
        folders = wished(set_of(recorded), store.folders(job.name))
        local = mirror.scan({path: Target(row.entry.root, replace(row, stat=None)) for path, row in recorded.items()} | targets(folders))
        findings = compare(job, recorded, folders, local)
    except SyncdError as failure:
        error = {"kind": failure.kind, "message": failure.message}
    return {"job": job.name, "commit": store.state(job.name).applied_commit, "files": len(recorded), "findings": findings, "error": error}


def _show(settings: Settings, result: dict[str, Any]) -> None:
    findings: list[Finding] = result["findings"]
    wrong = sum(not one.tolerated for one in findings)
    if result["error"]:
        emit(settings, f"✕ {result['job']}  {printable(result['error']['message'])}")
        return
    emit(settings, f"{'✕' if wrong else '✓'} {result['job']}  {count_of(result['files'], 'file')} read" + (f", {wrong} differ; to put them back: syncd sync {result['job']}" if wrong else ""))
    for one in findings:
        emit(settings, f"    {one.problem:<10} {printable(one.path)}" + ("  (drift: keep)" if one.tolerated else ""))
