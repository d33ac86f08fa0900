"""The current uid and gid of the owners in a stored set.

The ledger and the kept sets hold the numbers that the files got. Each entry also holds the
configured name, and a run follows the name: after `usermod -u` the recorded number belongs to
another user. Pure: no I/O, except for the lookup that is passed in.
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
    """Return the same entries with the ids that their owners have now; each name is looked up once.

    Entries without a configured owner stay as they are. Raises MirrorError for a name that no
    longer exists.
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
    """Return the ledger with the wanted file of each row as `with_current_ids` returns it."""
    now = with_current_ids({path: row.upstream for path, row in recorded.items()}, resolve_owner)
    return {
        path: row if now[path] is row.upstream else replace(row, wanted=now[path])
        for path, row in recorded.items()
    }


def has_unnamed_owner(entries: Mapping[str, WantedFile]) -> bool:
    """Return whether an entry has an owner whose name was not recorded: a row of an older
    version.
    """
    return any(
        entry.owner is None and (entry.uid, entry.gid) != (None, None) for entry in entries.values()
    )


def configured_owners(job: Job, resolve_owner: ResolveOwner) -> dict[str, Ids]:
    """Return each owner that the job's configuration names, with its ids now.

    Raises MirrorError as `resolve_owner` does.
    """
    names = {rule.owner or job.owner for rule in job.paths}
    return {name: resolve_owner(name) for name in sorted(name for name in names if name)}


__all__ = [
    "ResolveOwner",
    "configured_owners",
    "has_unnamed_owner",
    "rows_with_current_ids",
    "with_current_ids",
]
