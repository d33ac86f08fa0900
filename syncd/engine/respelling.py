"""Ledger rows whose files the configuration, a commit or the disk spells another way now."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from syncd.colliding_names import fold
from syncd.engine.context import RunState
from syncd.engine.coverage import folders_above
from syncd.engine.job_ledger import JobLedger
from syncd.models import Kind, LedgerRow, LocalFile, WantedFile
from syncd.ports import Mirror


def follow_spelling(run: RunState, remote: Mapping[str, WantedFile], own: JobLedger) -> JobLedger:
    """Move rows to the wanted paths that lead to the same real path.

    The file of a row whose real path has changed is read again.
    """
    moved = {
        path: replace(row, real=own.reals[path], stat=None)
        for path, row in own.recorded.items()
        if path in remote and row.real != own.reals[path]
    }
    recorded = {**own.recorded, **moved} if moved else own.recorded
    own = replace(own, recorded=recorded)
    dropped = [path for path in recorded if path not in remote]
    if not dropped:
        return own
    by_real = {own.reals[path]: path for path in remote}
    pairs = {path: by_real[own.reals[path]] for path in dropped if own.reals[path] in by_real}
    return move_rows(run, remote, own, pairs)


def move_rows(
    run: RunState,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    pairs: Mapping[str, str],
) -> JobLedger:
    """Move the row of each recorded path in `pairs` to the wanted path that it is paired with."""
    if not pairs:
        return own
    recorded = {path: row for path, row in own.recorded.items() if path not in pairs}
    for old, new in pairs.items():
        recorded.setdefault(new, own.recorded[old].at(remote[new].root, own.reals[new]))
    roots = {old: own.recorded[old].entry.root for old in pairs}
    renamed = renamed_folders(run.ctx.mirror, own.folders, remote, pairs, roots)
    return replace(
        own,
        recorded=recorded,
        superseded={**own.superseded, **dict.fromkeys(pairs, run.job.name)},
        respelled=own.respelled.union(pairs.values()),
        folders=(own.folders - renamed.keys()).union(renamed.values()),
        directories_acquired=(*own.directories_acquired, *renamed.values()),
        directories_reassigned={**own.directories_reassigned, **dict.fromkeys(renamed)},
    )


def renamed_folders(
    mirror: Mirror,
    folders: Iterable[str],
    remote: Mapping[str, WantedFile],
    pairs: Mapping[str, str],
    roots: Mapping[str, str],
) -> dict[str, str]:
    """Return directory of syncd's -> its spelling above the wanted paths, where that is another
    one.

    `pairs` are files by their old and new paths, `roots` the roots of the old ones. Below the roots
    the directories of one file correspond one by one; above them the resolved links decide.
    """
    old = (folders_above(pairs) - folders_above(remote)).intersection(folders)
    if not old:
        return {}
    new = folders_above(pairs.values())
    resolved = mirror.resolve([*old, *new])
    spelled = {resolved[folder].path: folder for folder in new}
    real = {folder: resolved[folder].path for folder in old}
    found = {folder: spelled[path] for folder, path in real.items() if path in spelled}
    for path, other in pairs.items():
        below = _corresponding(path, roots[path], other, remote[other].root)
        found |= {folder: same for folder, same in below.items() if folder in old}
    return found


def _corresponding(path: str, root: str, other: str, other_root: str) -> dict[str, str]:
    """Return the directories above `path` and below its root -> those above `other`, the same
    file.
    """
    found = {}
    path, other = posixpath.dirname(path), posixpath.dirname(other)
    while len(path) > len(root) and len(other) > len(other_root):
        found[path] = other
        path, other = posixpath.dirname(path), posixpath.dirname(other)
    return found


def same_files(
    mirror: Mirror,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    local: Mapping[str, LocalFile | None],
    rowless: Iterable[str],
) -> dict[str, str]:
    """Return recorded path that is not wanted -> the wanted path that is the same file on disk."""
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
        exists = have is not None and have.problem is None
        stat = have.stat if have is not None and exists else row.stat
        same_inode = by_inode.get((stat.device, stat.inode)) if stat is not None else None
        candidate = same_inode or by_name.get(fold(own.reals[path]))
        if candidate is None:
            continue
        if exists:
            is_same = mirror.is_same_file(path, candidate)
        else:
            is_same = _moved_away(row, local[candidate])
        if is_same:
            pairs[path] = candidate
    return pairs


def _moved_away(row: LedgerRow, have: LocalFile | None) -> bool:
    """Return whether this is the recorded file, which its own path no longer leads to."""
    return have is not None and have.is_file_of(row)
