"""The complete set of a job as it will be: what `validate` checks.

Nothing is copied here; each file knows where its bytes are.
"""

from __future__ import annotations

from functools import partial
from typing import BinaryIO

from syncd.engine.decision import Decision
from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.git_objects import size_of
from syncd.models import ActionKind, Kind, Plan, WantedFile
from syncd.ports import Blobs, Mirror, StagedFile


def staged_files(
    decision: Decision, blobs: Blobs, mirror: Mirror, max_bytes: int
) -> list[StagedFile]:
    """Return every destination after the plan, in path order.

    New bytes come from the cache; files that a policy keeps come from the disk. Raises MirrorError
    where the kept files have more than `max_bytes` in all.
    """
    plan = decision.plan
    _check_kept_bytes(plan, max_bytes)
    files = {path: _wanted(path, entry, blobs, mirror) for path, entry in decision.remote.items()}
    files |= _unlisted_files(decision, mirror)
    for action in plan.of(ActionKind.KEEP):
        files.pop(action.path, None)
        have = action.expected
        known = action.wanted or (action.recorded.entry if action.recorded else None)
        if have is not None and known is not None and have.kind in (Kind.FILE, Kind.LINK):
            content = partial(_opened, mirror, action.path, known.root, have.stat.size)
            files[action.path] = StagedFile(action.path, have.kind, have.mode, content)
    return [files[path] for path in sorted(files)]


def _wanted(path: str, entry: WantedFile, blobs: Blobs, mirror: Mirror) -> StagedFile:
    def opened() -> BinaryIO:
        try:
            return blobs.open(entry.blob)
        except KeyError:
            # an unchanged file whose bytes the cache has lost, or never had because it was adopted
            return _opened(mirror, path, entry.root, entry.size)

    return StagedFile(path, entry.kind, entry.mode, opened)


def _unlisted_files(decision: Decision, mirror: Mirror) -> dict[str, StagedFile]:
    """Return the files that the set no longer has and that `prune: off` leaves."""
    touched = {action.path for action in decision.plan.actions}
    return {
        path: StagedFile(
            path, row.entry.kind, row.entry.mode, partial(mirror.open, path, row.entry.root)
        )
        for path, row in decision.recorded.items()
        if path not in decision.remote and path not in touched
    }


def _check_kept_bytes(plan: Plan, max_bytes: int) -> None:
    kept = [
        (action.expected.stat.size, action.path)
        for action in plan.of(ActionKind.KEEP)
        if action.expected is not None and action.expected.kind is Kind.FILE
    ]
    total = sum(size for size, _ in kept)
    if total > max_bytes:
        size, path = max(kept)
        raise MirrorError(
            f"the files for validate can't be laid out: those that stay as they are have {total} "
            f"bytes, more than limits.size: {max_bytes} ({path} has {size})",
            path=path,
            id="mirror/kept-files-too-large",
            hint=f"move {path} away, or raise limits.size",
        )


def _opened(mirror: Mirror, path: str, root: str, size: int | None) -> BinaryIO:
    """Open the file at `path`, which had `size` bytes when it was looked at.

    Raises ChangedUnderneathError where it has more now.
    """
    content = mirror.open(path, root)
    if size is not None and size_of(content) > size:
        content.close()
        raise ChangedUnderneathError(
            f"{path} was changed while syncd was at work",
            path=path,
            id="mirror/changed-meanwhile",
            hint="the next run looks again",
        )
    return content
