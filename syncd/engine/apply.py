"""Stage everything that a plan needs, and say what became of every action of it.

Nothing is decided here. Nothing is replaced before every byte is in the cache and checked against
its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.engine.commit_contents import CommitContents
from syncd.engine.desired import MAX_LFS_POINTER_BYTES, check_lfs, check_link
from syncd.engine.lfs import refetch_contents
from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.models import Action, ActionKind, Change, Kind, LedgerRow, Ownership, Plan, WantedFile
from syncd.policies import Lfs
from syncd.ports import ActionOutcome, ApplyOutcome, CopiedFile
from syncd.trash_ids import trash_id


def stage(contents: CommitContents, plan: Plan, remote: Mapping[str, WantedFile]) -> int:
    """Fetch every blob that the plan writes, and check links and LFS pointers; return the bytes
    downloaded.

    Raises UnsafePathError or MirrorError for a link or pointer that the job refuses; nothing has
    been written then.
    """
    writes = [
        action.wanted
        for action in plan.of(ActionKind.WRITE, ActionKind.RESTORE)
        if action.wanted is not None
    ]
    links = {path: entry for path, entry in remote.items() if entry.kind is Kind.LINK}
    missing = _missing([*writes, *links.values()], contents)
    refetch_contents(contents, missing)
    downloaded = contents.fetch(entry for entry in missing if entry.pointer is None)
    _check_links(contents, links, remote)
    _check_pointers(contents, writes)
    return downloaded


def _missing(entries: Iterable[WantedFile], contents: CommitContents) -> list[WantedFile]:
    """Return one entry for each content that is not in the cache."""
    first: dict[str, WantedFile] = {}
    for entry in entries:
        if entry.blob not in first and not contents.is_cached(entry.blob):
            first[entry.blob] = entry
    return list(first.values())


def _check_links(
    contents: CommitContents, links: Mapping[str, WantedFile], remote: Mapping[str, WantedFile]
) -> None:
    for path, entry in links.items():
        target = contents.read(entry).decode("utf-8", "surrogateescape")
        check_link(contents.job, path, target, remote)


def _check_pointers(contents: CommitContents, writes: Iterable[WantedFile]) -> None:
    job = contents.job
    if job.lfs is not Lfs.REFUSE:
        return
    for entry in writes:
        if entry.kind is Kind.FILE and (entry.size is None or entry.size < MAX_LFS_POINTER_BYTES):
            check_lfs(job, entry, contents.read(entry, MAX_LFS_POINTER_BYTES))


class ApplyResult(Struct, frozen=True):
    """What a plan came to: ledger rows to keep and to drop, the public changes, and the errors."""

    upserts: dict[str, LedgerRow] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    applied: ApplyOutcome = ApplyOutcome({})
    errors: tuple[MirrorError, ...] = ()

    @property
    def only_changed_underneath(self) -> bool:
        """Whether every error is a file that was edited after it was looked at."""
        return bool(self.errors) and all(
            isinstance(error, ChangedUnderneathError) for error in self.errors
        )

    @property
    def error(self) -> MirrorError | None:
        """The first error, with how many there were."""
        if len(self.errors) < 2:
            return self.errors[0] if self.errors else None
        first = self.errors[0]
        return MirrorError(
            f"{first.message} (and {len(self.errors) - 1} more)",
            path=first.path,
            id=first.id,
            hint=first.hint,
        )


def apply_result(
    plan: Plan,
    recorded: Mapping[str, LedgerRow],
    remote: Mapping[str, WantedFile],
    applied: ApplyOutcome,
) -> ApplyResult:
    """Return the rows, changes and errors that follow from what the mirror did with the plan.

    An action that failed left its destination as it was: it is named as an error and is no change.
    """
    upserts: dict[str, LedgerRow] = {}
    removals: set[str] = set()
    changes: list[Change] = []
    errors: list[MirrorError] = list(applied.other_errors)
    for action in plan.actions:
        outcome = applied.outcomes.get(action.path, ActionOutcome(action.expected))
        if outcome.error is not None:
            errors.append(outcome.error)
            continue
        if action.kind.is_public:
            changes.append(carried_out(action, outcome.before))
        if action.is_directory:
            continue
        row = _row_after(action, outcome)
        if row is not None:
            upserts[action.path] = with_copied_stat(row, applied.copied.get(action.path))
        elif action.wanted is None:
            removals.add(action.path)
    upserts |= _rows_without_action(plan, recorded, remote, applied.copied)
    return ApplyResult(upserts, frozenset(removals), tuple(changes), applied, tuple(errors))


def _rows_without_action(
    plan: Plan,
    recorded: Mapping[str, LedgerRow],
    remote: Mapping[str, WantedFile],
    copied: Mapping[str, CopiedFile],
) -> dict[str, LedgerRow]:
    """Return the changed rows of destinations that the plan does not touch.

    A file that `prune: off` leaves is no longer part of the set. A copied file is another inode.
    """
    planned = {action.path for action in plan.actions}
    rows = {}
    for path, row in recorded.items():
        if path in planned:
            continue
        if path not in remote and row.ownership is Ownership.OWNED:
            unlisted = replace(row, ownership=Ownership.UNLISTED)
            rows[path] = with_copied_stat(unlisted, copied.get(path))
        elif path in copied:
            rows[path] = with_copied_stat(row, copied[path])
    return rows


def with_copied_stat(row: LedgerRow, copied: CopiedFile | None) -> LedgerRow:
    """Return the row of a file that was copied to another inode.

    A file that was edited before it was copied keeps its row, and so remains an edit.
    """
    if copied is None or row.stat != copied.before:
        return row
    return replace(row, stat=copied.recordable_stat)


def _row_after(action: Action, outcome: ActionOutcome) -> LedgerRow | None:
    """Return the ledger row after an action that went well; None where the row goes."""
    if action.wanted is None:
        return None
    if action.kind is ActionKind.KEEP:
        if action.recorded is None or action.recorded.ownership is Ownership.FOREIGN:
            return LedgerRow(action.wanted, None, Ownership.FOREIGN)
        return replace(action.recorded, wanted=action.wanted, ownership=Ownership.OWNED)
    return LedgerRow(action.wanted, outcome.local.recordable_stat if outcome.local else None)


def planned_changes(plan: Plan) -> tuple[Change, ...]:
    """Return the public line for each action of the plan that has one.

    It names the trash entries that will be made, as the report of the run will.
    """
    return tuple(carried_out(action) for action in plan.actions if action.kind.is_public)


def as_change(action: Action, replaced: str | None = None) -> Change:
    """Return the public line for an action (contract section 3): the blob ids before and after it.

    A directory has no blobs, and no path in the repository. `replaced` is the id of a file that the
    plan did not read.
    """
    before = (action.expected.blob if action.expected is not None else None) or replaced
    after = action.wanted.blob if action.wanted is not None else None
    if action.kind is ActionKind.KEEP or action.is_directory:
        after = before
    known = action.wanted or (action.recorded.entry if action.recorded else None)
    source = known.source if known and not action.is_directory else None
    return Change(action.kind, action.path, source, before, after, action.reason)


def carried_out(action: Action, replaced: str | None = None) -> Change:
    """Return the public line for an action that took effect, with the trash entry of what it
    replaced. `replaced`: see `as_change`.
    """
    change = as_change(action, replaced)
    if not action.replaces_foreign or change.before is None:
        return change
    return replace(change, trash=trash_id(action.path, change.before))
