"""Which ledger rows stand for a job's destinations, under whatever name they were written.

A destination is a file on disk, not the text that names it. Its row follows the file: to another
spelling (a link above the destination came or went, `to:` was written another way, the disk ignores
case), to the job that lists it now, and from a job that is configured no more. So none of these looks
like a file that was dropped, and nothing is removed, missing or reloaded for it.

Nothing is decided about files here; the planner does that with the rows.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.clock import Patience
from syncd.engine.coverage import folders_above, real_path
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.ports import Mirror, OwnedRow, Store
from syncd.errors import MirrorError
from syncd.models import Entry, Job, Kind, Local, Recorded, Standing
from syncd.twins import fold

SHOWN = 3


class Context(Protocol):
    """The collaborators that this needs of a run's."""

    @property
    def store(self) -> Store: ...
    @property
    def mirror(self) -> Mirror: ...
    @property
    def jobs(self) -> frozenset[str]: ...
    @property
    def others(self) -> OtherJobs | None: ...


class Ownership(Struct, frozen=True):
    """A job's ledger rows by the destinations it lists now, and what has to be recorded for that.

    `reals` has the real path of every destination that is wanted or recorded; `elsewhere` where a
    path that is only recorded leads now, if its links have changed. `superseded` are ledger
    rows (path -> job) that are in `recorded` under another path; `handed_over` are rows that another
    job gets. `folders` are those that syncd made for the job; `folders_taken` of them are recorded
    under another path or job, `folders_given` (path -> job or None for no job) go.
    """

    recorded: Mapping[str, Recorded]
    reals: Mapping[str, str]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    superseded: Mapping[str, str] = field(default_factory=dict)
    handed_over: Mapping[str, str] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    folders_taken: tuple[str, ...] = ()
    folders_given: Mapping[str, str | None] = field(default_factory=dict)
    took_over_from: tuple[str, ...] = ()
    reload_pending: bool = False
    notes: tuple[str, ...] = ()
    respelled: frozenset[str] = frozenset()  # of `recorded`: rows that had another path before
    taken: frozenset[str] = frozenset()  # of `recorded`: rows that another job had before

    @property
    def own_rows(self) -> dict[str, Recorded]:
        """The rows that were this job's already."""
        return {path: row for path, row in self.recorded.items() if path not in self.taken}

    def rows_to_record(self, upserts: Mapping[str, Recorded]) -> dict[str, Recorded]:
        """The run's rows with their real paths, and every row that has a new path or owner."""
        moved = {path: self.recorded[path] for path in self.respelled | self.taken}
        rows = {**moved, **upserts}
        return {path: replace(row, real=self.reals[path]) for path, row in rows.items()}


def claim(
    job: Job, ctx: Context, deadline: Patience, remote: Mapping[str, Entry], before: Ownership
) -> Ownership:
    """The rows of everything that the job wants, and none of what another job lists now.

    Raises MirrorError when another job lists a wanted file too, or two wanted paths are one file.
    """
    reals, elsewhere = _real_paths(ctx.mirror, remote, before.recorded)
    _refuse_one_file_twice(remote, reals)
    own = replace(before, reals=reals, elsewhere=elsewhere)
    own = _follow_spelling(job, ctx, remote, own)
    own = _take_over(job, ctx, deadline, remote, own, _rowless(remote, own))
    own = _hand_over(job, ctx, deadline, remote, own)
    return _take_abandoned_folders(job, ctx, remote, own)


def recognise(
    job: Job,
    ctx: Context,
    deadline: Patience,
    remote: Mapping[str, Entry],
    own: Ownership,
    local: Mapping[str, Local | None],
) -> Ownership:
    """As `claim`, for files that only the disk shows to be the same: by case, mount, or a move."""
    own = _spare_other_files(own, local)
    rowless = [path for path in _rowless(remote, own) if local.get(path) is not None]
    if not rowless:
        return own
    pairs = _same_files(ctx.mirror, remote, own, local, rowless)
    own = _moved(job, ctx, remote, own, pairs)
    unknown = {path: remote[path].root for path in rowless if path not in own.recorded}
    spelled = ctx.mirror.other_spellings(unknown)
    return _take_over(job, ctx, deadline, remote, own, spelled)


def _real_paths(
    mirror: Mirror, remote: Mapping[str, Entry], recorded: Mapping[str, Recorded]
) -> tuple[dict[str, str], dict[str, str]]:
    """Destination -> its real path; for one that is only recorded, the real path that it had then.

    And, for those that are only recorded, where they lead now, if that is somewhere else.
    """
    roots = {entry.root for entry in remote.values()}
    resolved = mirror.resolve(roots | {row.entry.root for row in recorded.values()})
    found = {path: real_path(path, entry.root, resolved) for path, entry in remote.items()}
    elsewhere = {}
    for path, row in recorded.items():
        if path not in remote:
            now = real_path(path, row.entry.root, resolved)
            found[path] = row.real or now
            if found[path] != now:
                elsewhere[path] = now
    return found, elsewhere


def _spare_other_files(own: Ownership, local: Mapping[str, Local | None]) -> Ownership:
    """A dropped path that leads elsewhere now names another file, which is not ours to remove.

    Unless it is the very file that was recorded: its folder has moved, and the link with it.
    """
    other = {}
    for path in own.elsewhere.keys() & own.recorded.keys():
        have, row = local.get(path), own.recorded[path]
        if have is not None and have.stat != row.stat:
            other[path] = replace(row, standing=Standing.MET)
    return replace(own, recorded={**own.recorded, **other}) if other else own


def _rowless(remote: Mapping[str, Entry], own: Ownership) -> dict[str, str]:
    """Wanted destination -> real path, for those without a row."""
    return {path: own.reals[path] for path in remote if path not in own.recorded}


def _refuse_one_file_twice(remote: Mapping[str, Entry], reals: Mapping[str, str]) -> None:
    if len({entry.root for entry in remote.values()}) < 2:
        return
    first: dict[str, str] = {}
    for path in remote:
        other = first.setdefault(reals[path], path)
        if other != path:
            raise MirrorError(
                f"{other} and {path} are one file ({reals[path]})",
                path=path,
                hint="exclude it under one of the two paths",
            )


# --- another spelling -------------------------------------------------------------------------------------------------


def _follow_spelling(
    job: Job, ctx: Context, remote: Mapping[str, Entry], own: Ownership
) -> Ownership:
    """Rows follow their real paths; a row whose real path has changed is looked at anew."""
    recorded = dict(own.recorded)
    for path, row in own.recorded.items():
        if path in remote and row.real != own.reals[path]:
            recorded[path] = replace(row, real=own.reals[path], stat=None)
    own = replace(own, recorded=recorded)
    dropped = [path for path in recorded if path not in remote]
    if not dropped:
        return own
    by_real = {own.reals[path]: path for path in remote}
    pairs = {path: by_real[own.reals[path]] for path in dropped if own.reals[path] in by_real}
    return _moved(job, ctx, remote, own, pairs)


def _moved(
    job: Job,
    ctx: Context,
    remote: Mapping[str, Entry],
    own: Ownership,
    pairs: Mapping[str, str],
) -> Ownership:
    """The rows of the paths on the left stand for the wanted paths on the right."""
    if not pairs:
        return own
    recorded = {path: row for path, row in own.recorded.items() if path not in pairs}
    for old, new in pairs.items():
        recorded.setdefault(new, replace(own.recorded[old], real=own.reals[new]))
    roots = {old: own.recorded[old].entry.root for old in pairs}
    renamed = _renamed_folders(ctx.mirror, own.folders, remote, pairs, roots)
    return replace(
        own,
        recorded=recorded,
        superseded={**own.superseded, **dict.fromkeys(pairs, job.name)},
        respelled=own.respelled.union(pairs.values()),
        folders=(own.folders - renamed.keys()).union(renamed.values()),
        folders_taken=(*own.folders_taken, *renamed.values()),
        folders_given={**own.folders_given, **dict.fromkeys(renamed)},
    )


def _renamed_folders(
    mirror: Mirror,
    folders: Iterable[str],
    remote: Mapping[str, Entry],
    pairs: Mapping[str, str],
    roots: Mapping[str, str],
) -> dict[str, str]:
    """Folder of ours -> its spelling above the wanted paths, where that is another one.

    `pairs` are files by their old and new paths, `roots` the roots of the old ones. Below the roots
    the folders of one file correspond one by one; above them the links tell.
    """
    old = [folder for folder in folders if folder in folders_above(pairs) - folders_above(remote)]
    if not old:
        return {}
    new = folders_above(pairs.values())
    resolved = mirror.resolve([*old, *new])
    spelled = {resolved[folder]: folder for folder in new}
    found = {folder: spelled[resolved[folder]] for folder in old if resolved[folder] in spelled}
    for path, other in pairs.items():
        below = _corresponding(path, roots[path], other, remote[other].root)
        found |= {folder: same for folder, same in below.items() if folder in old}
    return found


def _corresponding(path: str, root: str, other: str, other_root: str) -> dict[str, str]:
    """The folders above `path` and below its root -> those above `other`, which is the same file."""
    found = {}
    path, other = posixpath.dirname(path), posixpath.dirname(other)
    while len(path) > len(root) and len(other) > len(other_root):
        found[path] = other
        path, other = posixpath.dirname(path), posixpath.dirname(other)
    return found


def _same_files(
    mirror: Mirror,
    remote: Mapping[str, Entry],
    own: Ownership,
    local: Mapping[str, Local | None],
    rowless: Iterable[str],
) -> dict[str, str]:
    """Recorded path that is not wanted -> the wanted path that is the same file on disk."""
    by_inode: dict[tuple[int, int], str] = {}
    by_name: dict[str, str] = {}
    for path in rowless:
        have = local.get(path)
        if have is not None and have.kind is not Kind.DIRECTORY:
            by_inode[have.stat.device, have.stat.inode] = path
            by_name[fold(own.reals[path])] = path
    pairs = {}
    for path, row in own.recorded.items():
        if path in remote:
            continue
        have = local.get(path)
        there = have is not None and have.problem is None
        stat = have.stat if have is not None and there else row.stat
        same_inode = by_inode.get((stat.device, stat.inode)) if stat is not None else None
        candidate = same_inode or by_name.get(fold(own.reals[path]))
        if candidate is None:
            continue
        if mirror.same_place(path, candidate) if there else _moved_away(row, local[candidate]):
            pairs[path] = candidate
    return pairs


def _moved_away(row: Recorded, have: Local | None) -> bool:
    """Whether the recorded file, which its own path does not lead to any more, is this one."""
    return row.stat is not None and have is not None and have.stat == row.stat


# --- another job ------------------------------------------------------------------------------------------------------


def _take_over(
    job: Job,
    ctx: Context,
    deadline: Patience,
    remote: Mapping[str, Entry],
    own: Ownership,
    wanted: Mapping[str, str],
) -> Ownership:
    """Rows of other jobs for these destinations (path -> real path) that those jobs list no more.

    Raises MirrorError for one that its owner lists, naming both.
    """
    rows = ctx.store.owners(wanted.values())
    taken: dict[str, OwnedRow] = {}
    superseded = dict(own.superseded)
    for path, real in wanted.items():
        for row in rows.get(real, ()):
            if row.job == job.name:
                continue
            _refuse_wanted_by_both(job, ctx, deadline, path, real, row)
            taken.setdefault(path, row)
            if row.path != path:
                superseded[row.path] = row.job
    if not taken:
        return own
    recorded = {
        path: replace(row.recorded, stat=None, real=own.reals[path]) for path, row in taken.items()
    }
    own = replace(
        own,
        recorded={**own.recorded, **recorded},
        superseded=superseded,
        taken=own.taken.union(taken),
    )
    return _with_what_belongs_to_it(job, ctx, remote, own, taken)


def _refuse_wanted_by_both(
    job: Job, ctx: Context, deadline: Patience, path: str, real: str, row: OwnedRow
) -> None:
    if row.job not in ctx.jobs:
        return
    if ctx.others is not None and not ctx.others.lists(row.job, real, deadline):
        return
    raise MirrorError(
        f"{path} is wanted by the jobs {job.name} and {row.job}; {row.job} owns it and goes on",
        path=path,
        hint=f"exclude it from one of them: syncd explain {path}",
    )


def _with_what_belongs_to_it(
    job: Job,
    ctx: Context,
    remote: Mapping[str, Entry],
    own: Ownership,
    taken: Mapping[str, OwnedRow],
) -> Ownership:
    """Also the folders above the files taken, and a pending reload of a job that is gone."""
    owners = sorted({row.job for row in taken.values()})
    pending = own.reload_pending or any(
        owner not in ctx.jobs and ctx.store.state(owner).hook_owed for owner in owners
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
    ctx: Context,
    remote: Mapping[str, Entry],
    own: Ownership,
    owner: str,
    taken: Mapping[str, OwnedRow],
) -> Ownership:
    """The folders that were made for the owner's taken files, but for those it has other files in."""
    pairs = {row.path: path for path, row in taken.items()}
    theirs = ctx.store.folders(owner) & folders_above(pairs)
    if theirs and owner in ctx.jobs:
        theirs -= folders_above(ctx.store.recorded(owner).keys() - pairs.keys())
    if not theirs:
        return own
    roots = {row.path: row.recorded.entry.root for row in taken.values()}
    renamed = _renamed_folders(ctx.mirror, theirs, remote, pairs, roots)
    folders = [renamed.get(folder, folder) for folder in sorted(theirs)]
    return replace(
        own,
        folders=own.folders.union(folders),
        folders_taken=(*own.folders_taken, *folders),
        folders_given={**own.folders_given, **dict.fromkeys(renamed)},
    )


def _hand_over(
    job: Job, ctx: Context, deadline: Patience, remote: Mapping[str, Entry], own: Ownership
) -> Ownership:
    """What the job lists no more and another one lists now is that one's; what may be, is left."""
    dropped = {path: own.reals[path] for path in own.recorded if path not in remote}
    if not dropped or ctx.others is None:
        return own
    listed, unknown = ctx.others.listing(job.name, dropped, deadline)
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
        folders_given={**own.folders_given, **given},
        notes=(*own.notes, *_notes(listed, unknown)),
    )


def _take_abandoned_folders(
    job: Job, ctx: Context, remote: Mapping[str, Entry], own: Ownership
) -> Ownership:
    """Folders that were made for other jobs and hold none of their files are removed with ours."""
    dropped = own.recorded.keys() - remote.keys()
    owners = ctx.store.folder_owners(folders_above(dropped) - own.folders) if dropped else {}
    abandoned = []
    for owner in sorted(set(owners.values()) - {job.name}):
        used = folders_above(ctx.store.recorded(owner))
        abandoned += [path for path, one in owners.items() if one == owner and path not in used]
    if not abandoned:
        return own
    taken = (*own.folders_taken, *abandoned)
    return replace(own, folders=own.folders.union(abandoned), folders_taken=taken)


def _folders_given(
    folders: frozenset[str], kept: Mapping[str, Recorded], listed: Mapping[str, str]
) -> dict[str, str]:
    """Folder -> the job that gets it, for those that hold files of that job and none of ours."""
    above: dict[str, str] = {}
    for path, other in listed.items():
        for folder in folders_above([path]):
            above.setdefault(folder, other)
    ours = folders_above(kept)
    return {folder: above[folder] for folder in folders if folder in above and folder not in ours}


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
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
