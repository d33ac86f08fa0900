"""The complete set of a job as it will be: what `validate` looks at. Nothing is copied here; each file knows where its bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import BinaryIO

from syncd.engine.ports import Blobs, Mirror, StagedFile
from syncd.models import Entry, Kind, Plan, Recorded, Verb


def staged_files(plan: Plan, remote: Mapping[str, Entry], recorded: Mapping[str, Recorded], blobs: Blobs, mirror: Mirror) -> list[StagedFile]:
    """Every destination after the plan, in path order: new bytes from the cache, files that a policy keeps as they are on disk."""
    files: dict[str, StagedFile] = {path: _wanted(path, entry, blobs, mirror) for path, entry in remote.items()}
    touched = {action.path for action in plan.actions}
    for path, row in recorded.items():
        if path not in remote and path not in touched:  # prune: off
            files[path] = StagedFile(path, row.entry.kind, row.entry.mode, partial(mirror.open, path, row.entry.root))
    for action in plan.of(Verb.KEEP):
        files.pop(action.path, None)
        have, known = action.expect, action.want or (action.had.entry if action.had else None)
        if have is not None and known is not None and have.kind in (Kind.FILE, Kind.LINK):
            files[action.path] = StagedFile(action.path, have.kind, have.mode, partial(mirror.open, action.path, known.root))
    return [files[path] for path in sorted(files)]


def _wanted(path: str, entry: Entry, blobs: Blobs, mirror: Mirror) -> StagedFile:
    def opened() -> BinaryIO:
        try:
            return blobs.open(entry.blob)
        except KeyError:
            return mirror.open(path, entry.root)  # an unchanged file whose bytes the cache has lost, or never had: it was adopted

    return StagedFile(path, entry.kind, entry.mode, opened)
