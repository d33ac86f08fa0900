"""Who may use the state folder, and what the members of its group may read.

The state belongs to one user. Only that user writes to it; root and, with `state_group`, the members of one group may look. The folder's
own mode carries the setting (0750 instead of 0700), so that every writer shares the same few files without reading the configuration.
"""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path

from syncd.errors import StoreError, StrangerError, UnsafePathError
from syncd.owners import nearest_owner, owner_name
from syncd.safe_open import check_path_is_trusted, make_folders

PRIVATE, SHARED = 0o700, 0o750
PASSING = 0o011
OTHERS = stat.S_IRWXG | stat.S_IRWXO
GROUP_MAY_READ = 0o050
MEMBERS_MAY = ", whose group may run status, history, explain and plan, without --diff"
LOCKS = "locks"  # its names are looked up to see which job runs; the files in it stay private


def refuse_stranger(state_dir: Path) -> None:
    """Raise StrangerError where this process is not the owner of the state: files it made would lock the owner out."""
    found = _stat(state_dir)
    if found is not None and found.st_uid != os.geteuid():
        raise _stranger(state_dir, found.st_uid)


def refuse_reader(state_dir: Path, members: bool) -> None:
    """Raise StrangerError where this process may not read the state. Where there is none, everybody may look.

    `members`: the command is one of those that `state_group` opens.
    """
    found = _stat(state_dir)
    if found is None or os.geteuid() in (0, found.st_uid):
        return
    if not (_is_shared(found) and _is_member(found.st_gid)):
        raise _stranger(state_dir, found.st_uid)
    if not members:
        raise _stranger(state_dir, found.st_uid, MEMBERS_MAY)


def make_state_folder(state_dir: Path) -> None:
    """The folder exists, and as root nobody else can replace it or a folder above it.

    What is done by path below it afterwards stays below it. Raises StoreError, OSError.
    """
    try:
        check_path_is_trusted(state_dir)
        make_folders(state_dir, PRIVATE)
        check_path_is_trusted(state_dir)  # again: another user may have made it just before
    except UnsafePathError as error:
        raise StoreError(error.message, hint=error.hint) from error


def set_access(state_dir: Path, group: str | None) -> None:
    """Make the folder private, or readable by `group` (a name or a number). Raises StoreError, OSError."""
    if group is None:
        _tighten(state_dir, PRIVATE)
        return
    gid = _group_id(group)
    try:
        os.chown(state_dir, -1, gid)
    except PermissionError as error:
        raise StoreError(
            f"state_group {group}: can't give the state folder {state_dir} to that group: {error.strerror}",
            hint=f"let the owner of the state be a member: sudo usermod -aG {group} {owner_name(os.geteuid())}",
        ) from error
    _tighten(state_dir, SHARED)
    with suppress(FileNotFoundError):
        share(state_dir / LOCKS, state_dir)


def _tighten(state_dir: Path, mode: int) -> None:
    """Set the mode; a folder that lets others pass, and no more, goes on to do so.

    The user of a hook that runs now passes it on the way to its staged files (hooks/staging_dir.py).
    Passing shows none of the names in it.
    """
    found = stat.S_IMODE(os.stat(state_dir).st_mode)
    wanted = mode | PASSING if found in (PRIVATE | PASSING, SHARED | PASSING) else mode
    if found != wanted:
        set_private_mode(state_dir, wanted)


def set_private_mode(path: Path, mode: int) -> None:
    """Set the mode of a file or folder of the state. Raises OSError, StoreError.

    A file system that ignores it and shows the path to others is refused: the state holds what
    private repositories hold.
    """
    os.chmod(path, mode)
    shown = stat.S_IMODE(os.stat(path).st_mode)
    if shown & OTHERS & ~mode:
        raise StoreError(
            f"the state can't be made private: {path} was set to mode {mode:04o}, "
            f"and its file system still shows {shown:04o}",
            hint="set state: to a folder on a disk that keeps modes, such as /var/lib/syncd, "
            "or mount this one with umask=0077",
        )


def share(path: Path, state_dir: Path) -> None:
    """Let the state's group read a file or a folder of the state, where the state has one. Raises OSError."""
    folder = os.stat(state_dir)
    if not _is_shared(folder):
        return
    found = os.lstat(path)
    if found.st_gid != folder.st_gid:
        os.chown(path, -1, folder.st_gid, follow_symlinks=False)
    mode = SHARED if stat.S_ISDIR(found.st_mode) else 0o640
    if stat.S_IMODE(found.st_mode) != mode and not stat.S_ISLNK(found.st_mode):
        os.chmod(path, mode)


def try_to_share(path: Path, state_dir: Path) -> None:
    """As `share`, for what is only nice to know: a file that can't be shared stays private."""
    with suppress(OSError):
        share(path, state_dir)


def _stat(state_dir: Path) -> os.stat_result | None:
    try:
        return os.stat(state_dir)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        name = nearest_owner(state_dir)
        text = f"can't look at the state folder {state_dir}: {error.strerror}"
        raise StrangerError(text, owner=name) from error


def _stranger(state_dir: Path, uid: int, more: str = "") -> StrangerError:
    owner, me = owner_name(uid), owner_name(os.geteuid())
    text = f"the state folder {state_dir} belongs to {owner}, and you are {me}{more}"
    return StrangerError(text, owner=owner)


def _is_shared(folder: os.stat_result) -> bool:
    return folder.st_mode & GROUP_MAY_READ == GROUP_MAY_READ


def _is_member(gid: int) -> bool:
    return gid == os.getegid() or gid in os.getgroups()


def _group_id(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise StoreError(
            f"state_group {group}: this machine knows no such group",
            hint=f"create it (sudo groupadd {group}), or correct state_group:",
        ) from error
