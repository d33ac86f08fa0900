"""Compare a destination with what the plan saw, and describe it after the action."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from syncd.errors import ChangedUnderneathError
from syncd.mirror.dirfd import changed_error
from syncd.mirror.file_ops import stat_at
from syncd.mirror.racy import has_same_bytes
from syncd.mirror.scan import scan_entry, stat_of
from syncd.mirror.spelling import is_same_file
from syncd.models import Action, Kind, LocalFile, WantedFile
from syncd.ports import ActionOutcome, Inodes


def check_expected(folder: int, name: str, action: Action, now_ns: Callable[[], int]) -> bool:
    """Return whether anything is there; raise ChangedUnderneathError if it is not what was planned.

    Where the stat that the plan saw was racy, the bytes are compared too.
    """
    now, expected = stat_at(folder, name), action.expected
    if expected is not None and expected.kind is Kind.DIRECTORY:
        expected = None
    same = now == (None if expected is None else expected.stat)
    if same and expected is not None and expected.racy:
        same = has_same_bytes(scan_entry(folder, name, action.path, None, now_ns), expected)
    if not same:
        raise destination_changed_error(action.path)
    return now is not None


def destination_changed_error(path: str) -> ChangedUnderneathError:
    """Return the error for a destination that is no longer what the plan saw."""
    return changed_error(path, f"{path} was changed while syncd was working; it was left unchanged")


def local_after_write(want: WantedFile, found: os.stat_result, racy: bool) -> LocalFile:
    """Return what is at a destination after an action that succeeded."""
    mode = stat.S_IMODE(found.st_mode)
    return LocalFile(
        want.kind, want.blob, mode, found.st_uid, found.st_gid, stat_of(found), racy=racy
    )


def inodes_written(outcomes: Mapping[str, ActionOutcome]) -> Inodes:
    """Return the files that the actions so far have left, by inode."""
    found = ((path, outcome.local) for path, outcome in outcomes.items())
    return {
        (local.stat.device, local.stat.inode): path for path, local in found if local is not None
    }


def is_spelling_of_kept(have: LocalFile, path: str, kept: Inodes) -> bool:
    """Return whether the name to remove is another spelling of one of these files."""
    other = kept.get((have.stat.device, have.stat.inode))
    return other is not None and is_same_file(path, other)
