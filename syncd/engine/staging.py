"""The complete set of a job as it will be: what `validate` looks at. Nothing is copied here; each file knows where its bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import BinaryIO

from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.git_objects import size_of
from syncd.models import ActionKind, Kind, LedgerRow, Plan, WantedFile
from syncd.ports import Blobs, Mirror, StagedFile


def staged_files(
    plan: Plan,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    blobs: Blobs,
    mirror: Mirror,
    largest_bytes: int,
) -> list[StagedFile]:
    """Every destination after the plan, in path order: new bytes from the cache, files that a policy keeps as they are on disk.

    Raises MirrorError where those are more than `largest_bytes` in all.
    """
    _check_kept(plan, largest_bytes)
    files: dict[str, StagedFile] = {
        path: _wanted(path, entry, blobs, mirror) for path, entry in remote.items()
    }
    touched = {action.path for action in plan.actions}
    for path, row in recorded.items():
        if path not in remote and path not in touched:  # prune: off
            files[path] = StagedFile(
                path, row.entry.kind, row.entry.mode, partial(mirror.open, path, row.entry.root)
            )
    for action in plan.of(ActionKind.KEEP):
        files.pop(action.path, None)
        have, known = (
            action.expected,
            action.wanted or (action.recorded.entry if action.recorded else None),
        )
        if have is not None and known is not None and have.kind in (Kind.FILE, Kind.LINK):
            files[action.path] = StagedFile(
                action.path,
                have.kind,
                have.mode,
                partial(_opened, mirror, action.path, known.root, have.stat.size),
            )
    return [files[path] for path in sorted(files)]


def _wanted(path: str, entry: WantedFile, blobs: Blobs, mirror: Mirror) -> StagedFile:
    def opened() -> BinaryIO:
        try:
            return blobs.open(entry.blob)
        except KeyError:
            return _opened(
                mirror, path, entry.root, entry.size
            )  # an unchanged file whose bytes the cache has lost, or never had: it was adopted

    return StagedFile(path, entry.kind, entry.mode, opened)


def _check_kept(plan: Plan, largest_bytes: int) -> None:
    kept = [
        (action.expected.stat.size, action.path)
        for action in plan.of(ActionKind.KEEP)
        if action.expected is not None and action.expected.kind is Kind.FILE
    ]
    total = sum(size for size, _ in kept)
    if total > largest_bytes:
        size, path = max(kept)
        raise MirrorError(
            f"can't lay out the files for validate: those that stay as they are have {total} bytes, more than limits.size: {largest_bytes} ({path} has {size})",
            path=path,
            hint=f"move {path} away, or raise limits.size",
        )


def _opened(mirror: Mirror, path: str, root: str, size: int | None) -> BinaryIO:
    """What stands at `path`, which had so many bytes when it was looked at. Raises ChangedUnderneathError where it has more."""
    content = mirror.open(path, root)
    if size is not None and size_of(content) > size:
        content.close()
        raise ChangedUnderneathError(
            f"{path} was changed while syncd was at work",
            path=path,
            hint="the next run looks again",
        )
    return content
