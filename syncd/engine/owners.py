"""PURE but for the lookup passed in: the owners of a set that comes from memory, as this machine numbers them now.

The ledger and the kept sets hold numbers, which are what the files got. Each entry also holds the configured name, and the name is what
a run follows: after `usermod -u` the recorded number is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from syncd.models import Job, LedgerRow, WantedFile
from syncd.owners import Ids

ResolveOwner = Callable[[str], Ids]


def with_current_ids(
    entries: Mapping[str, WantedFile], resolve_owner: ResolveOwner
) -> dict[str, WantedFile]:
    """The same entries with the ids that their owners have now; each name is looked up once.

    Entries without a configured owner stay as they are. Raises MirrorError for a name that does not exist any more.
    """
    ids: dict[str, Ids] = {}
    result = {}
    for path, entry in entries.items():
        if entry.owner is None:
            result[path] = entry
            continue
        if entry.owner not in ids:
            ids[entry.owner] = resolve_owner(entry.owner)
        uid, gid = ids[entry.owner]
        result[path] = (
            entry if (entry.uid, entry.gid) == (uid, gid) else replace(entry, uid=uid, gid=gid)
        )
    return result


def rows_with_current_ids(
    recorded: Mapping[str, LedgerRow], resolve_owner: ResolveOwner
) -> dict[str, LedgerRow]:
    """The ledger with what each row wants as `as_numbered_now` has it."""
    now = with_current_ids({path: row.upstream for path, row in recorded.items()}, resolve_owner)
    return {
        path: row if now[path] is row.upstream else replace(row, wanted=now[path])
        for path, row in recorded.items()
    }


def has_unnamed_owner(entries: Mapping[str, WantedFile]) -> bool:
    """Whether an entry has an owner whose name was not recorded: a row of an older version."""
    return any(
        entry.owner is None and (entry.uid, entry.gid) != (None, None) for entry in entries.values()
    )


def configured_owners(job: Job, resolve_owner: ResolveOwner) -> dict[str, Ids]:
    """Every owner that the job's configuration names, and its ids now. Raises MirrorError as `resolve_owner` does."""
    names = {rule.owner or job.owner for rule in job.paths}
    return {name: resolve_owner(name) for name in sorted(name for name in names if name)}


__all__ = [
    "ResolveOwner",
    "configured_owners",
    "has_unnamed_owner",
    "rows_with_current_ids",
    "with_current_ids",
]
