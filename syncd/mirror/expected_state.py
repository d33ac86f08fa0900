"""What the plan saw at a destination, compared at the moment of acting, and what stands after it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from syncd.errors import ChangedUnderneathError
from syncd.mirror.file_ops import stat_at
from syncd.mirror.racy import has_same_bytes
from syncd.mirror.scan import scan_entry, stat_of
from syncd.mirror.spelling import is_same_file
from syncd.models import Action, Kind, LocalFile, WantedFile
from syncd.ports import ActionOutcome, Inodes


def check_expected(folder: int, name: str, action: Action, now_ns: Callable[[], int]) -> bool:
    """Whether something stands there. Raises ChangedUnderneathError when it is not what the plan saw.

    Where the stat that the plan saw was racy, the bytes are compared too.
    """
    now, expect = stat_at(folder, name), action.expected
    if expect is not None and expect.kind is Kind.DIRECTORY:
        expect = None
    same = now == (None if expect is None else expect.stat)
    if same and expect is not None and expect.racy:
        same = has_same_bytes(scan_entry(folder, name, action.path, None, now_ns), expect)
    if not same:
        raise ChangedUnderneathError(
            f"{action.path} was changed while syncd was at work; it was left alone",
            path=action.path,
            hint="the next run looks again",
        )
    return now is not None


def local_after_write(want: WantedFile, found: os.stat_result, racy: bool) -> LocalFile:
    """What stands at a destination after an action that went well."""
    mode = stat.S_IMODE(found.st_mode)
    return LocalFile(
        want.kind, want.blob, mode, found.st_uid, found.st_gid, stat_of(found), racy=racy
    )


def inodes_written(outcomes: Mapping[str, ActionOutcome]) -> Inodes:
    """What stands after the actions so far, by inode."""
    found = ((path, outcome.local) for path, outcome in outcomes.items())
    return {
        (local.stat.device, local.stat.inode): path for path, local in found if local is not None
    }


def is_kept(have: LocalFile, path: str, kept: Inodes) -> bool:
    """Whether the name to remove is another spelling of one of these files."""
    other = kept.get((have.stat.device, have.stat.inode))
    return other is not None and is_same_file(path, other)
