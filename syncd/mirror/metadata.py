"""Check that the file system did what a chmod or chown asked for.

Some file systems accept a change of mode or owner and ignore it: exFAT by FUSE, CIFS, bindfs with
`--chmod-ignore`. The calls return success there, so what the disk shows afterwards is compared
with what was asked for.
"""

from __future__ import annotations

import os
import stat

from syncd.errors import MirrorError
from syncd.models import PERMISSIONS, Kind, WantedFile

DEFAULT_MODES = (0o644, 0o755)  # of files, where the job has no `mode:`


class IgnoredByFileSystemError(MirrorError):
    """The file system accepted a change of mode or owner and shows another one."""


def check_file(path: str, want: WantedFile, found: os.stat_result) -> None:
    """Raise IgnoredByFileSystemError unless `found` has the mode and owner of `want`."""
    _check_owner(path, want.uid, want.gid, found)
    if want.kind is Kind.FILE and stat.S_IMODE(found.st_mode) != want.mode:
        raise _ignored_mode(path, want.mode, stat.S_IMODE(found.st_mode), "mode", "fmask")


def check_folder(
    path: str, mode: int, found: os.stat_result, uid: int | None = None, gid: int | None = None
) -> None:
    """Raise IgnoredByFileSystemError unless the folder has the permissions and owner."""
    _check_owner(path, uid, gid, found)
    shown = stat.S_IMODE(found.st_mode) & PERMISSIONS
    if shown != mode & PERMISSIONS:
        raise _ignored_mode(path, mode & PERMISSIONS, shown, "dir_mode", "dmask")


def _check_owner(path: str, uid: int | None, gid: int | None, found: os.stat_result) -> None:
    if uid in (None, found.st_uid) and gid in (None, found.st_gid):
        return
    asked = f"{'' if uid is None else uid}:{'' if gid is None else gid}"
    raise IgnoredByFileSystemError(
        f"the file system of {path} ignores chown: the owner was set to {asked}, "
        f"and it is still {found.st_uid}:{found.st_gid}",
        id="mirror/chown-ignored",
        path=path,
        hint="leave out owner: in the job, or mount the file system with uid= and gid=",
    )


def _ignored_mode(
    path: str, asked: int, shown: int, key: str, option: str
) -> IgnoredByFileSystemError:
    leave_out = shown in DEFAULT_MODES and asked not in DEFAULT_MODES
    remedy = f"leave out {key}:" if leave_out and key == "mode" else f'set {key}: "{shown:04o}"'
    return IgnoredByFileSystemError(
        f"the file system of {path} ignores chmod: the mode was set to {asked:04o}, "
        f"and it is still {shown:04o}",
        id="mirror/chmod-ignored",
        path=path,
        hint=f"{remedy} in the job, or mount the file system with "
        f"{option}={PERMISSIONS & ~asked:04o} (umask= where it has no {option}=)",
    )
