"""Stages everything a plan needs, then walks it through the mirror, and says what became of every step.

Nothing here decides; nothing is replaced before every byte is here and checked against its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.desired import MAX_LFS_POINTER_BYTES, check_lfs, check_link
from syncd.engine.lfs import refetch_contents
from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.git_objects import FILE
from syncd.git_objects import LINK as GIT_LINK
from syncd.models import (
    Action,
    ActionKind,
    Change,
    Job,
    Kind,
    LedgerRow,
    Lfs,
    Ownership,
    Plan,
    TreeEntry,
    WantedFile,
)
from syncd.ports import (
    NO_INODES,
    ActionOutcome,
    ApplyOutcome,
    BlobRequest,
    Blobs,
    CopiedFile,
    Inodes,
    Mirror,
    Source,
)


def stage(
    job: Job,
    commit: str,
    plan: Plan,
    remote: Mapping[str, WantedFile],
    source: Source,
    blobs: Blobs,
    deadline: Deadline,
) -> int:
    """Every blob that the plan writes is in `blobs`, and links and LFS pointers are as the policies want them; the bytes downloaded.

    Raises UnsafePathError or MirrorError for a link or pointer that the job refuses; nothing has been written then.
    """
    writes = [
        action.wanted
        for action in plan.of(ActionKind.WRITE, ActionKind.RESTORE)
        if action.wanted is not None
    ]
    links = {path: entry for path, entry in remote.items() if entry.kind is Kind.LINK}
    missing = _missing([*writes, *links.values()], blobs)
    refetch_contents(job, commit, missing, source, blobs, deadline)
    downloaded = source.fetch(
        job.repo,
        commit,
        [_wanted(entry) for entry in missing if entry.pointer is None],
        blobs,
        deadline,
    )
    for path, entry in links.items():
        check_link(job, path, _read(blobs, entry).decode("utf-8", "surrogateescape"), remote)
    if job.lfs is Lfs.REFUSE:
        for entry in writes:
            if entry.kind is Kind.FILE and (
                entry.size is None or entry.size < MAX_LFS_POINTER_BYTES
            ):
                check_lfs(job, entry, _read(blobs, entry, MAX_LFS_POINTER_BYTES))
    return downloaded


def _missing(entries: Iterable[WantedFile], blobs: Blobs) -> list[WantedFile]:
    first: dict[str, WantedFile] = {}
    for entry in entries:
        if entry.blob not in first and not _sound(entry.blob, blobs):
            first[entry.blob] = entry
    return list(first.values())


def _wanted(entry: WantedFile) -> BlobRequest:
    return BlobRequest(
        entry.source,
        TreeEntry(GIT_LINK if entry.kind is Kind.LINK else FILE, entry.blob, entry.size),
    )


def _sound(blob: str, blobs: Blobs) -> bool:
    """Is it here and whole? What the disk has damaged meanwhile is fetched anew now, not found out when files are being replaced."""
    if not blobs.has(blob):
        return False
    try:
        blobs.open(blob).close()
    except KeyError:
        return False
    return True


def _read(blobs: Blobs, entry: WantedFile, limit: int = -1) -> bytes:
    try:
        with blobs.open(entry.blob) as content:
            return content.read(limit)
    except (KeyError, OSError) as error:
        raise MirrorError(
            f"the content of {entry.source} can't be read from the cache",
            path=entry.source,
            hint="run it again; it will be fetched anew",
        ) from error


class ApplyResult(Struct, frozen=True):
    """What a plan came to: ledger rows to keep and to drop, the public changes, and the first error with how many there were."""

    upserts: dict[str, LedgerRow] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    applied: ApplyOutcome = ApplyOutcome({})
    errors: tuple[MirrorError, ...] = ()

    @property
    def only_changed_underneath(self) -> bool:
        return bool(self.errors) and all(
            isinstance(error, ChangedUnderneathError) for error in self.errors
        )

    @property
    def error(self) -> MirrorError | None:
        if len(self.errors) < 2:
            return self.errors[0] if self.errors else None
        first = self.errors[0]
        return MirrorError(
            f"{first.message} (and {len(self.errors) - 1} more)", path=first.path, hint=first.hint
        )


def apply_plan(
    intent: str,
    plan: Plan,
    recorded: Mapping[str, LedgerRow],
    remote: Mapping[str, WantedFile],
    mirror: Mirror,
    blobs: Blobs,
    folders: frozenset[str],
    looks: Mapping[str, WantedFile],
    kept: Inodes = NO_INODES,
) -> ApplyResult:
    """The disk is as the plan says, but for the steps that failed, which are left as they were and named."""
    steps = [action for action in plan.actions if action.kind.touches_disk]
    applied = (
        mirror.apply(intent, steps, blobs, folders, looks, kept) if steps else ApplyOutcome({})
    )
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
            changes.append(as_change(action, outcome.before))
        if action.is_directory:
            continue
        row = _row(action, outcome)
        if row is not None:
            upserts[action.path] = with_copied_stat(row, applied.copied.get(action.path))
        elif action.wanted is None:
            removals.add(action.path)
    planned = {action.path for action in plan.actions}
    for path, row in recorded.items():
        if path not in remote and path not in planned and row.ownership is Ownership.OWNED:
            upserts[path] = with_copied_stat(
                replace(row, ownership=Ownership.UNLISTED), applied.copied.get(path)
            )  # prune: off; it stays, and is no longer part of the set
        elif path in applied.copied and path not in planned:
            upserts[path] = with_copied_stat(row, applied.copied[path])
    return ApplyResult(upserts, frozenset(removals), tuple(changes), applied, tuple(errors))


def with_copied_stat(row: LedgerRow, carried: CopiedFile | None) -> LedgerRow:
    """The same bytes under another inode, where what was carried is what the ledger knows. An edit is carried too, and stays an edit."""
    return (
        row
        if carried is None or row.stat != carried.before
        else replace(row, stat=carried.recordable_stat)
    )


def _row(action: Action, outcome: ActionOutcome) -> LedgerRow | None:
    """The ledger row after an action that went well; None where the row goes."""
    if action.wanted is None:
        return None
    if action.kind is ActionKind.KEEP:
        if action.recorded is None or action.recorded.ownership is Ownership.FOREIGN:
            return LedgerRow(action.wanted, None, Ownership.FOREIGN)
        return replace(action.recorded, wanted=action.wanted, ownership=Ownership.OWNED)
    return LedgerRow(action.wanted, outcome.local.recordable_stat if outcome.local else None)


def as_change(action: Action, replaced: str | None = None) -> Change:
    """The public line for an action (contract section 3): blob ids of what stood there and of what stands there after it.

    A folder has no blobs, and nothing in the repository says what it is like. `replaced` is the id of a file that the plan did not read.
    """
    before = (action.expected.blob if action.expected is not None else None) or replaced
    after = action.wanted.blob if action.wanted is not None else None
    if action.kind is ActionKind.KEEP or action.is_directory:
        after = before
    known = action.wanted or (action.recorded.entry if action.recorded else None)
    return Change(
        action.kind,
        action.path,
        known.source if known and not action.is_directory else None,
        before,
        after,
        action.reason,
    )
