"""`syncd explain`: why a path is as it is, from configuration, ledger and disk, without a
request.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from syncd.cli.common import Settings, emit, emit_folded, require_utf8
from syncd.cli.completions import complete_path
from syncd.cli.trash_entries import entry_of, short_ids_in
from syncd.clock import Clock, SystemClock
from syncd.config.model import Config
from syncd.engine.directories import applied_set, directory_targets, wanted_directories
from syncd.engine.owners import rows_with_current_ids
from syncd.engine.verify import Finding, compare
from syncd.errors import MirrorError, SyncdError
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.symlink_publish import mirror_for
from syncd.models import ActionKind, Job, LedgerRow, Ownership, PathRule
from syncd.patterns import path_filter
from syncd.policies import Drift
from syncd.ports import OwnedRow, Target
from syncd.store.history import PastRun
from syncd.store.store import SqliteStore
from syncd.stored_jobs import destination_of, open_store, real_path_of, row_of, spellings_in_history
from syncd.text import one_line
from syncd.wiring import look_up_owner

PROBLEMS = {
    "missing": "it is not there",
    "content": "it holds other bytes",
    "mode": "its mode is {found} and should be {expected}",
    "owner": "its owner is {found} and should be {expected}",
    "kind": "it is a {found} and should be a {expected}",
    "unreadable": "it can't be read: {found}",
}
NEXT = {
    "restore": "the next sync puts it right",
    "report": "drift: report leaves it until upstream changes it",
    "keep": "drift: keep leaves it",
}
HISTORY = 5


@click.command(name="explain", short_help="Why a path is as it is.")
@click.argument("path", callback=require_utf8, shell_complete=complete_path)
@click.pass_obj
def command(settings: Settings, path: str) -> int:
    """Say of a destination which job writes it, from where, what its state is and what happened to
    it last. Exit 1 when no job does.
    """
    config = settings.load_read_only(members=True)
    path = posixpath.normpath(os.path.abspath(path))
    store = open_store(config, read_only=True)
    try:
        row = row_of(config, store, path)
        folder = None if row is not None else _find_directory(config, store, path)
        spellings = spellings_in_history(store, path)
        past = store.history(None, path, HISTORY, spellings)
        if row is not None:
            lines = _file(config, store, row)
        elif folder is not None:
            lines = _directory(config, store, *folder)
        else:
            lines = [f"{path}: {_what_happened(store, past, spellings)}", *_reach(config, path)]
    finally:
        store.close()
    for line in lines:
        emit_folded(settings, one_line(line), "    ", "")
    names = short_ids_in(config.state)
    for run in past:
        for change in run.changes:
            if change.path in spellings:
                entry = entry_of(change, names)
                emit(
                    settings,
                    f"  {run.started_at[:19]}Z  {change.action:<8} at {(run.commit or '-')[:7]}"
                    f" ({run.trigger})",
                )
                if entry is not None:
                    emit(settings, f"    → syncd trash restore {names[entry]}")
    return 0 if row is not None or folder is not None else 1


def _find_directory(config: Config, store: SqliteStore, path: str) -> tuple[str, str] | None:
    """Return the folder as it is recorded and the job that it was made for, by any spelling."""
    real = destination_of(config, path)
    for job in config.jobs:
        for folder in sorted(store.folders(job)):
            if destination_of(config, folder) == real:
                return folder, job
    return None


def _file(config: Config, store: SqliteStore, owned: OwnedRow) -> list[str]:
    path, owner, row = owned.path, owned.job, owned.recorded
    job, state = config.jobs.get(owner), store.state(owner)
    if job is None:
        return [
            (
                f"{path}: written by the job {owner}, which is not configured any more; it stays as"
                " it is"
            ),
            f"  to forget it: syncd sync --forget {owner}",
        ]
    is_foreign = row.ownership is Ownership.FOREIGN
    lines = [
        f"{path}: {row.upstream.source} of {job.repo}@{job.ref or 'HEAD'}, by the job {owner}",
        f"  kept: another file was here first, and {NEXT[job.drift.value]}"
        if is_foreign
        else f"  applied: commit {(state.applied_commit or '-')[:12]}, blob"
        f" {row.upstream.blob[:12]}, mode {row.upstream.mode:04o}",
    ]
    following = "" if is_foreign else f"; {NEXT[job.drift.value]}"
    return [*lines, *_state_of(job, path, row, config.state, following), *_paused(store, owner)]


def _state_of(job: Job, path: str, row: LedgerRow, state: Path, following: str) -> list[str]:
    if row.ownership is Ownership.UNLISTED:
        return ["  the repository has it no more; prune: off leaves it"]
    try:
        row = rows_with_current_ids({path: row}, look_up_owner)[path]
        local = mirror_for(job, DiskMirror(state / "trash", SystemClock()), SystemClock()).scan(
            {path: Target(row.entry.root, replace(row, stat=None))}
        )
    except SyncdError as error:
        return [f"  now: {error.message}"]
    found = compare(job, {path: row}, {}, local)
    return [_now(found[0], following)] if found else ["  now: as it was applied, byte for byte"]


def _now(found: Finding, following: str) -> str:
    return (
        f"  now: {PROBLEMS[found.problem].format(found=found.found, expected=found.expected)}"
        f"{following}"
    )


def _directory(config: Config, store: SqliteStore, path: str, maker: str) -> list[str]:
    """Describe a folder that syncd made: its wanted and its present mode and owner."""
    job, first = (
        config.jobs[maker],
        f"{path}: a folder that syncd made, for the job {maker}; it goes when it becomes empty",
    )
    try:
        want = wanted_directories(
            applied_set(rows_with_current_ids(store.load_ledger(maker), look_up_owner)), {path}
        ).get(path)
    except MirrorError as error:
        return [first, f"  asked: {error.message}"]
    if want is None:
        return [first, "  nothing of the job is in it now: its mode and owner are left alone"]
    try:
        local = mirror_for(
            job, DiskMirror(config.state / "trash", SystemClock()), SystemClock()
        ).scan(directory_targets({path: want}))
    except SyncdError as error:
        return [first, f"  now: {error.message}"]
    owner = (
        ""
        if want.uid is None
        else f", owner {want.uid}"
        if want.gid is None
        else f", owner {want.uid}:{want.gid}"
    )
    asked = [f"  asked: mode {want.mode:04o}{owner}"]
    if local[path] is None:
        return [first, *asked, "  now: it is not there, or something else is in its place"]
    found = compare(job, {}, {path: want}, local)
    following = (
        "drift: report leaves it until another dir_mode or owner is asked"
        if job.drift is Drift.REPORT
        else NEXT[job.drift.value]
    )
    return [
        first,
        *asked,
        _now(found[0], f"; {following}") if found else "  now: as asked",
        *_paused(store, maker),
    ]


def _paused(store: SqliteStore, owner: str, clock: Clock = SystemClock()) -> list[str]:
    return (
        [f"  the job is left alone for now; to go on: syncd resume {owner}"]
        if store.state(owner).paused(clock.now())
        else []
    )


def _what_happened(store: SqliteStore, past: Sequence[PastRun], spellings: Sequence[str]) -> str:
    """Return what a job did last with a file that has no ledger row."""
    changes = ((run, change) for run in past for change in run.changes if change.path in spellings)
    run, change = next(changes, (None, None))
    if run is None or change is None:
        return "no job has written it"
    job, commit = f"the job {run.job}", (run.commit or "-")[:7]
    is_forgotten = store.state(run.job).applied_commit is None
    if change.action == ActionKind.REMOVE:
        return f"{job} removed it at {commit}: it was dropped upstream"
    if change.action == ActionKind.KEEP and not is_forgotten:
        # what a policy keeps has a row: this one was forgotten because upstream dropped the file
        return f"{job} keeps it: it was dropped upstream at {commit}, but edited here"
    done = "kept" if change.action == ActionKind.KEEP else "wrote"
    return f"{job} {done} it at {commit}; it is not recorded any more"


def _reach(config: Config, path: str) -> list[str]:
    """Return which jobs list a path that has no ledger row, and why it does not exist."""
    real = destination_of(config, path)
    lines = [
        line
        for job in config.jobs.values()
        for rule in job.paths
        for line in _by_rule(job, rule, path, real)
    ]
    return lines or ["  no job's paths reach it; syncd leaves it alone"]


def _by_rule(job: Job, rule: PathRule, asked: str, real: str) -> list[str]:
    to = real_path_of(rule.to)
    path = rule.to + real[len(to) :] if f"{real}/".startswith(f"{to}/") else asked
    if not rule.directory:
        return (
            [
                f"  the job {job.name} lists it as {rule.source} and has not written it yet; syncd"
                f" plan {job.name}"
            ]
            if path == rule.to
            else []
        )
    if not path.startswith(rule.to + "/"):
        return []
    below = path[len(rule.to) + 1 :]
    source = f"{rule.source}/{below}" if rule.source else below
    if not path_filter(rule)(below):
        return [
            f"  the job {job.name} would write {source} of {job.repo} here, but its include and"
            " exclude leave it out"
        ]
    return [
        f"  the job {job.name} mirrors {job.repo}'s {rule.source or '/'} here; it would come from"
        f" {source}, if the repository has that. A file of your own is left alone"
    ]
