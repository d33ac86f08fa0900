"""What was on disk before a change whose reload failed, as a value, and the plan that brings it
back.

Everything that was there counts, whatever its origin: files of the last set, an operator's edit, a
file that was taken over. A file that is edited after the change is left alone. Pure: no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from syncd.models import (
    PERMISSIONS,
    Action,
    ActionKind,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Plan,
    Stat,
    WantedFile,
)
from syncd.ports import ActionOutcome, JobState


class Before(Struct, frozen=True):
    """What was at one destination (None: nothing), and what the ledger said of it.

    `in_ledger_only`: the change did not touch the disk there. `is_folder`: the change was of the
    mode or owner of a directory that syncd made. The field names are keys of the stored JSON.
    """

    local: LocalFile | None
    row: LedgerRow | None
    root: str
    dir_mode: int = 0o755
    in_ledger_only: bool = False
    is_folder: bool = False


class Undo(Struct, frozen=True):
    """What the changes with a pending reload have replaced, and the set that was applied before
    them.
    """

    commit: str | None
    digest: str | None
    files: int
    places: Mapping[str, Before] = field(default_factory=dict)

    @property
    def blobs(self) -> frozenset[str]:
        """The blob ids of the contents that the undo needs."""
        return frozenset(
            before.local.blob
            for before in self.places.values()
            if before.local is not None
            and before.local.blob is not None
            and not before.in_ledger_only
        )

    @property
    def rows(self) -> dict[str, LedgerRow]:
        """The ledger rows as they were, where there were any."""
        return {path: before.row for path, before in self.places.items() if before.row is not None}


def record_undo(
    state: JobState,
    plan: Plan,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    earlier: Undo | None,
) -> Undo:
    """Return what the plan is about to replace.

    `earlier` is the undo of changes that have had no successful reload either: what was there
    before those changes counts.
    """
    places = {}
    for path, row in recorded.items():
        if path not in remote and row.ownership is Ownership.OWNED:
            # `prune: off` drops the row and leaves the file
            places[path] = Before(
                None, row, row.entry.root, row.entry.dir_mode, in_ledger_only=True
            )
    for action in plan.actions:
        known = action.wanted or (action.recorded.entry if action.recorded else None)
        if known is not None:
            places[action.path] = Before(
                action.expected,
                recorded.get(action.path),
                known.root,
                known.dir_mode,
                not action.kind.touches_disk,
                action.is_directory,
            )
    if earlier is None:
        return Undo(state.applied_commit, state.applied_config_digest, state.files, places)
    return replace(earlier, places={**places, **earlier.places})


def undo_plan(
    undo: Undo,
    recorded: Mapping[str, LedgerRow],
    local: Mapping[str, LocalFile | None],
    is_root: bool,
    folders: Mapping[str, WantedFile],
) -> Plan:
    """Return the actions that bring back what was there, where the disk holds what syncd wrote.

    A `keep` names a path that is left alone. `folders` is what the change asked of the directories
    that syncd made. Only root can bring owners back (`is_root`).
    """
    actions: list[Action | None] = []
    for path, before in sorted(undo.places.items()):
        have = local.get(path)
        if before.in_ledger_only:
            continue
        if before.is_folder:
            actions.append(_undo_directory(path, before, folders.get(path), have, is_root))
        else:
            actions.append(_undo_file(path, before, recorded.get(path), have, is_root))
    return Plan(tuple(action for action in actions if action is not None), undo.files)


def _undo_directory(
    path: str, before: Before, put: WantedFile | None, have: LocalFile | None, is_root: bool
) -> Action | None:
    was = before.local
    if was is None or have is None or put is None:
        return None
    uid, gid = (was.uid, was.gid) if is_root else (None, None)
    mode = was.mode & PERMISSIONS
    want = WantedFile("", mode, Kind.DIRECTORY, uid, gid, root=before.root, dir_mode=mode)
    if want.same_permissions(have):
        return None
    if put.same_permissions(have):
        return Action(ActionKind.MODE, path, want, None, have, "undone")
    return Action(ActionKind.KEEP, path, want, None, have, "changed since")


def _undo_file(
    path: str, before: Before, row: LedgerRow | None, have: LocalFile | None, is_root: bool
) -> Action | None:
    was = before.local
    unedited = row is not None and have is not None and row.entry.same_content(have)
    if was is None or was.kind is Kind.DIRECTORY:
        if have is None or have.kind is Kind.DIRECTORY:
            return None
        if unedited:
            return Action(ActionKind.REMOVE, path, None, row, have, "undone")
        return Action(ActionKind.KEEP, path, None, row, have, "edited since")
    if was.kind is Kind.OTHER:
        reason = "a special file was here, and has no bytes to bring back"
        return Action(ActionKind.KEEP, path, None, row, have, reason)
    if was.blob is None:
        return Action(ActionKind.KEEP, path, None, row, have, "what was here could not be read")
    want = _as_wanted(was, was.blob, before, row, is_root)
    if want.same_content(have):
        if have is None or want.same_permissions(have):
            return None
        return Action(ActionKind.MODE, path, want, row, have, "undone")
    if have is not None and have.kind is not Kind.DIRECTORY and not unedited:
        return Action(ActionKind.KEEP, path, want, row, have, "edited since")
    return Action(ActionKind.WRITE, path, want, row, have, "undone")


def _as_wanted(
    was: LocalFile, blob: str, before: Before, row: LedgerRow | None, is_root: bool
) -> WantedFile:
    """Return what was there as something to write. Only root can bring owners back."""
    known = before.row or row
    uid, gid = (was.uid, was.gid) if is_root else (None, None)
    return WantedFile(
        blob,
        was.mode,
        was.kind,
        uid,
        gid,
        known.entry.source if known else "",
        was.stat.size,
        before.root,
        before.dir_mode,
    )


def rows_after(
    undo: Undo, local: Mapping[str, LocalFile | None], outcomes: Mapping[str, ActionOutcome]
) -> tuple[dict[str, LedgerRow], frozenset[str]]:
    """Return the ledger as it was: rows to keep, and paths to drop.

    `local` is what is on disk where no action was needed. A stat is kept where it is of these
    bytes.
    """
    upserts, removals = {}, set()
    for path, before in undo.places.items():
        outcome = outcomes.get(path, ActionOutcome(local.get(path)))
        if outcome.error is not None or before.is_folder:
            continue
        if before.row is None:
            removals.add(path)
        elif before.in_ledger_only:
            upserts[path] = before.row
        else:
            now = outcome.local
            is_back = now is not None and before.row.entry.same_content(now)
            stat = now.recordable_stat if is_back and now is not None else None
            upserts[path] = replace(before.row, stat=stat)
    return upserts, frozenset(removals)


# --- as text ------------------------------------------------------------------------------------


def to_text(undo: Undo) -> str:
    """Return the undo as JSON, for the blob cache."""
    return json.dumps(asdict(undo), default=_fields, separators=(",", ":"))


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a value by their stored names, which are those of the first version."""
    fields = asdict(value)
    if isinstance(value, LedgerRow):
        fields["standing"] = fields.pop("ownership")
    return fields


def from_text(text: str) -> Undo:
    """Return the undo of a stored text.

    Raises ValueError, KeyError or TypeError for any other text.
    """
    read = json.loads(text)
    places = {path: _before(values) for path, values in read.pop("places").items()}
    return Undo(**read, places=places)


def _before(values: dict[str, Any]) -> Before:
    local, row = values["local"], values["row"]
    return Before(
        _local(local) if local else None,
        _recorded(row) if row else None,
        values["root"],
        values["dir_mode"],
        values["in_ledger_only"],
        values.get("is_folder", False),
    )


def _local(values: dict[str, Any]) -> LocalFile:
    return LocalFile(**{**values, "kind": Kind(values["kind"]), "stat": Stat(**values["stat"])})


def _recorded(values: dict[str, Any]) -> LedgerRow:
    stat, wanted = values["stat"], values["wanted"]
    return LedgerRow(
        _read_entry(values["entry"]),
        Stat(**stat) if stat else None,
        Ownership(values["standing"]),
        _read_entry(wanted) if wanted else None,
        values.get("real"),
    )


def _read_entry(values: dict[str, Any]) -> WantedFile:
    return WantedFile(**{**values, "kind": Kind(values["kind"])})
