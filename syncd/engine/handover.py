"""Ledger rows that change their job: files that this one lists now, and files that another one
lists now.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from syncd.engine.context import RunContext, RunState
from syncd.engine.coverage import folders_above
from syncd.engine.job_ledger import JobLedger
from syncd.engine.respelling import renamed_folders
from syncd.errors import MirrorError
from syncd.models import LedgerRow, WantedFile
from syncd.ports import OwnedRow

MAX_PATHS_SHOWN = 3  # in a note of the report


def take_over(
    run: RunState,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    wanted: Mapping[str, str],
) -> JobLedger:
    """Take the rows that other jobs have for these destinations (path -> real path) and no longer
    list.

    Raises MirrorError for one that its owner lists, naming both.
    """
    rows = run.ctx.store.owners(wanted.values())
    taken: dict[str, OwnedRow] = {}
    superseded = dict(own.superseded)
    for path, real in wanted.items():
        for row in rows.get(real, ()):
            if row.job == run.job.name:
                continue
            _refuse_wanted_by_both(run, path, real, row)
            taken.setdefault(path, row)
            if row.path != path:
                superseded[row.path] = row.job
    if not taken:
        return own
    recorded = {
        path: replace(row.recorded.at(remote[path].root, own.reals[path]), stat=None)
        for path, row in taken.items()
    }
    own = replace(
        own,
        recorded={**own.recorded, **recorded},
        superseded=superseded,
        taken=own.taken.union(taken),
    )
    return _with_what_belongs_to_them(run, remote, own, taken)


def _refuse_wanted_by_both(run: RunState, path: str, real: str, row: OwnedRow) -> None:
    ctx = run.ctx
    if row.job not in ctx.jobs:
        return
    if ctx.others is not None and not ctx.others.lists(row.job, real, run.deadline):
        return
    raise MirrorError(
        f"{path} is wanted by the jobs {run.job.name} and {row.job}; {row.job} owns it and goes on",
        path=path,
        id="mirror/wanted-by-two-jobs",
        hint=f"exclude it from one of them: syncd explain {path}",
    )


def _with_what_belongs_to_them(
    run: RunState,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    taken: Mapping[str, OwnedRow],
) -> JobLedger:
    """Take also the directories above the files, and the pending reload of a job that is gone."""
    ctx = run.ctx
    owners = sorted({row.job for row in taken.values()})
    pending = own.reload_pending or any(
        owner not in ctx.jobs and ctx.store.state(owner).pending_reload is not None
        for owner in owners
    )
    counts = {owner: sum(row.job == owner for row in taken.values()) for owner in owners}
    own = replace(
        own,
        took_over_from=tuple(dict.fromkeys([*own.took_over_from, *owners])),
        reload_pending=pending,
        notes=(*own.notes, *(f"took over {_files(counts[one])} of {one}" for one in owners)),
    )
    for owner in owners:
        theirs = {path: row for path, row in taken.items() if row.job == owner}
        own = _take_folders(ctx, remote, own, owner, theirs)
    return own


def _take_folders(
    ctx: RunContext,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    owner: str,
    taken: Mapping[str, OwnedRow],
) -> JobLedger:
    """Take the directories that were made for these files of `owner`, except where it has other
    files.
    """
    pairs = {row.path: path for path, row in taken.items()}
    theirs = ctx.store.folders(owner) & folders_above(pairs)
    if theirs and owner in ctx.jobs:
        theirs -= folders_above(ctx.store.load_ledger(owner).keys() - pairs.keys())
    if not theirs:
        return own
    roots = {row.path: row.recorded.entry.root for row in taken.values()}
    renamed = renamed_folders(ctx.mirror, theirs, remote, pairs, roots)
    folders = [renamed.get(folder, folder) for folder in sorted(theirs)]
    return replace(
        own,
        folders=own.folders.union(folders),
        directories_acquired=(*own.directories_acquired, *folders),
        directories_reassigned={**own.directories_reassigned, **dict.fromkeys(renamed)},
    )


def hand_over(run: RunState, remote: Mapping[str, WantedFile], own: JobLedger) -> JobLedger:
    """Give the rows that the job no longer lists to the job that lists them now.

    A file that another job may list, which cannot be asked now, is left alone.
    """
    others = run.ctx.others
    dropped = {path: own.reals[path] for path in own.recorded if path not in remote}
    if not dropped or others is None:
        return own
    listed, unknown = others.listing(run.job.name, dropped, run.deadline)
    if not listed and not unknown:
        return own
    gone = listed.keys() | unknown.keys()
    recorded = {path: row for path, row in own.recorded.items() if path not in gone}
    given = _folders_given(own.folders, recorded, listed)
    return replace(
        own,
        recorded=recorded,
        handed_over={**own.handed_over, **listed},
        folders=own.folders - given.keys(),
        directories_reassigned={**own.directories_reassigned, **given},
        notes=(*own.notes, *_notes(listed, unknown)),
    )


def take_abandoned_folders(
    run: RunState, remote: Mapping[str, WantedFile], own: JobLedger
) -> JobLedger:
    """Take directories that were made for other jobs and hold none of their files: they go with
    this job's.
    """
    store = run.ctx.store
    dropped = own.recorded.keys() - remote.keys()
    owners = store.folder_owners(folders_above(dropped) - own.folders) if dropped else {}
    abandoned = []
    for owner in sorted(set(owners.values()) - {run.job.name}):
        used = folders_above(store.load_ledger(owner))
        abandoned += [path for path, one in owners.items() if one == owner and path not in used]
    if not abandoned:
        return own
    taken = (*own.directories_acquired, *abandoned)
    return replace(own, folders=own.folders.union(abandoned), directories_acquired=taken)


def _folders_given(
    folders: frozenset[str], kept: Mapping[str, LedgerRow], listed: Mapping[str, str]
) -> dict[str, str]:
    """Return directory -> the job that gets it, for those with files of that job and none of this
    one.
    """
    above: dict[str, str] = {}
    for path, other in listed.items():
        for folder in folders_above([path]):
            above.setdefault(folder, other)
    own = folders_above(kept)
    return {folder: above[folder] for folder in folders if folder in above and folder not in own}


def _notes(listed: Mapping[str, str], unknown: Mapping[str, str]) -> list[str]:
    notes = []
    for other in sorted(set(listed.values())):
        notes.append(f"{_named(listed, other)} now belongs to the job {other}")
    for other in sorted(set(unknown.values())):
        notes.append(
            f"{_named(unknown, other)} stays: the job {other} may list it and could not be asked"
        )
    return notes


def _named(owners: Mapping[str, str], owner: str) -> str:
    paths = sorted(path for path, one in owners.items() if one == owner)
    more = f" and {len(paths) - MAX_PATHS_SHOWN} more" if len(paths) > MAX_PATHS_SHOWN else ""
    return ", ".join(paths[:MAX_PATHS_SHOWN]) + more


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
