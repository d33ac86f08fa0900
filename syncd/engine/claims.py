"""Which ledger rows belong to a job's destinations, under whatever name they were written.

A destination is a file on disk, not the text that names it. Its row follows the file: to another
spelling (a link above the destination was made or removed, `to:` was written another way, the disk
ignores case), to the job that lists it now, and from a job that is no longer configured. So none of
these looks like a file that was dropped, and nothing is removed, missing or reloaded for it.

Nothing is decided about files here; the planner does that with the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from syncd.colliding_names import fold
from syncd.engine.context import RunState
from syncd.engine.coverage import real_path
from syncd.engine.handover import hand_over, take_abandoned_folders, take_over
from syncd.engine.job_ledger import JobLedger
from syncd.engine.respelling import follow_spelling, move_rows, same_files
from syncd.errors import MirrorError
from syncd.models import LedgerRow, LocalFile, Ownership, RealFolder, WantedFile
from syncd.ports import Mirror


def claim(run: RunState, remote: Mapping[str, WantedFile], before: JobLedger) -> JobLedger:
    """Return the rows of everything that the job wants, and none of what another job lists now.

    Raises MirrorError when another job lists a wanted file too, or two wanted paths are one file.
    """
    reals, elsewhere = _real_paths(run.ctx.mirror, remote, before.recorded)
    _refuse_one_file_twice(remote, reals)
    own = replace(before, reals=reals, elsewhere=elsewhere)
    own = follow_spelling(run, remote, own)
    own = take_over(run, remote, own, _rowless(remote, own))
    own = hand_over(run, remote, own)
    return take_abandoned_folders(run, remote, own)


def recognise(
    run: RunState,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
    local: Mapping[str, LocalFile | None],
) -> JobLedger:
    """Return the rows as `claim` does, for files that only the disk shows to be the same.

    These are files that another case, a mount or a move has given another name.
    """
    own = _spare_other_files(own, local)
    seen = {path for path, have in local.items() if have is not None and have.problem is None}
    rowless = [path for path in _rowless(remote, own) if path in seen]
    if not rowless:
        return own
    pairs = same_files(run.ctx.mirror, remote, own, local, rowless)
    own = move_rows(run, remote, own, pairs)
    unknown = {path: remote[path].root for path in rowless if path not in own.recorded}
    spelled = run.ctx.mirror.other_spellings(unknown)
    return take_over(run, remote, own, spelled)


def _real_paths(
    mirror: Mirror, remote: Mapping[str, WantedFile], recorded: Mapping[str, LedgerRow]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return destination -> its real path; for one that is only recorded, the real path it had
    then.

    The second mapping has, for those that are only recorded, where they lead now if that is
    somewhere else.
    """
    roots = {entry.root for entry in remote.values()}
    resolved = mirror.resolve(roots | {row.entry.root for row in recorded.values()})
    found = {path: real_path(path, entry.root, resolved) for path, entry in remote.items()}
    elsewhere = {}
    for path, row in recorded.items():
        if path in remote:
            continue
        now = real_path(path, row.entry.root, resolved)
        same = row.real is None or _same_in_another_case(row, now, resolved)
        found[path] = now if same else row.real or now
        if found[path] != now:
            elsewhere[path] = now
    return found, elsewhere


def _same_in_another_case(row: LedgerRow, now: str, resolved: Mapping[str, RealFolder]) -> bool:
    """Return whether the row was made before it was known that its disk ignores case."""
    return resolved[row.entry.root].ignores_case and fold(row.real or "") == fold(now)


def _spare_other_files(own: JobLedger, local: Mapping[str, LocalFile | None]) -> JobLedger:
    """Give up the rows of dropped paths that name another file now, which syncd may not remove.

    A row stays when the file is the very one that was recorded: its directory has moved, and the
    link with it.
    """
    other = {}
    for path in own.elsewhere.keys() & own.recorded.keys():
        have, row = local.get(path), own.recorded[path]
        if have is not None and not have.is_file_of(row):
            other[path] = replace(row, ownership=Ownership.FOREIGN)
    return replace(own, recorded={**own.recorded, **other}) if other else own


def _rowless(remote: Mapping[str, WantedFile], own: JobLedger) -> dict[str, str]:
    """Return wanted destination -> real path, for those without a row."""
    return {path: own.reals[path] for path in remote if path not in own.recorded}


def _refuse_one_file_twice(remote: Mapping[str, WantedFile], reals: Mapping[str, str]) -> None:
    if len({entry.root for entry in remote.values()}) < 2:
        return
    first: dict[str, str] = {}
    for path in remote:
        other = first.setdefault(reals[path], path)
        if other != path:
            raise MirrorError(
                f"{other} and {path} are one file ({reals[path]})",
                path=path,
                id="mirror/one-file-twice",
                hint="exclude it under one of the two paths",
            )
