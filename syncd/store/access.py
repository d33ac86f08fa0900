"""Controls who may use the state folder, and what the members of its group may read.

The state belongs to one user, and only that user writes to it. Root and, with `state_group`, the
members of one group may read it. The mode of the folder stores the setting (0750 instead of 0700),
so every writer shares the same files without reading the configuration.
"""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path

from syncd.errors import NotOwnerError, StoreError, UnsafePathError
from syncd.owners import nearest_owner, owner_name
from syncd.safe_open import check_path_is_trusted, make_folders

PRIVATE_MODE, SHARED_MODE = 0o700, 0o750
TRAVERSE_BITS = 0o011
OTHERS_BITS = stat.S_IRWXG | stat.S_IRWXO
GROUP_READ_BITS = 0o050
GROUP_COMMANDS = ", whose group may run status, history, explain and plan, without --diff"
# Members of the group read the names in it to see which jobs run; the files stay private.
LOCKS = "locks"


def check_process_is_owner(state_dir: Path) -> None:
    """Raise NotOwnerError where this process is not the owner of the state: files it creates would
    lock the owner out.
    """
    found = _stat(state_dir)
    if found is not None and found.st_uid != os.geteuid():
        raise _not_owner(state_dir, found.st_uid)


def check_process_may_read(state_dir: Path, group_may_read: bool) -> None:
    """Raise NotOwnerError where this process may not read the state.

    Where there is no state, everyone may.

    `group_may_read`: the command is one of those that `state_group` allows.
    """
    found = _stat(state_dir)
    if found is None or os.geteuid() in (0, found.st_uid):
        return
    if not (_is_shared(found) and _is_member(found.st_gid)):
        raise _not_owner(state_dir, found.st_uid)
    if not group_may_read:
        raise _not_owner(state_dir, found.st_uid, GROUP_COMMANDS)


def make_state_folder(state_dir: Path) -> None:
    """Make the state folder, and check as root that no other user can replace it or a folder above
    it.

    Paths below it are then safe to use by name. Raises StoreError, OSError.
    """
    try:
        check_path_is_trusted(state_dir)
        make_folders(state_dir, PRIVATE_MODE)
        check_path_is_trusted(state_dir)  # again: another user may have made it just before
    except UnsafePathError as error:
        raise StoreError(error.message, id="store/unsafe-state-folder", hint=error.hint) from error


def set_access(state_dir: Path, group: str | None) -> None:
    """Make the folder private, or readable by `group` (a name or a number).

    Raises StoreError, OSError.
    """
    if group is None:
        _set_state_mode(state_dir, PRIVATE_MODE)
        return
    gid = _group_id(group)
    try:
        os.chown(state_dir, -1, gid)
    except PermissionError as error:
        raise StoreError(
            f"state_group {group}: the state folder {state_dir} can't be given to that group: "
            f"{error.strerror}",
            id="store/state-group-refused",
            hint="add the owner of the state to the group: "
            f"sudo usermod -aG {group} {owner_name(os.geteuid())}; "
            "under systemd: syncd init --systemd --install",
        ) from error
    _set_state_mode(state_dir, SHARED_MODE)
    with suppress(FileNotFoundError):
        share_with_group(state_dir / LOCKS, state_dir)


def _set_state_mode(state_dir: Path, mode: int) -> None:
    """Set the mode of the state folder; keep the permission to pass through it, where that is all
    others have.

    The user of a running hook needs it to reach the staged files (hooks/staging_dir.py). It shows
    none of the names in the folder.
    """
    current = stat.S_IMODE(os.stat(state_dir).st_mode)
    traversable = (PRIVATE_MODE | TRAVERSE_BITS, SHARED_MODE | TRAVERSE_BITS)
    new = mode | TRAVERSE_BITS if current in traversable else mode
    if current != new:
        set_private_mode(state_dir, new)


def set_private_mode(path: Path, mode: int) -> None:
    """Set the mode of a file or folder of the state. Raises OSError, StoreError.

    A file system that ignores the mode and shows the path to other users is refused, because the
    state holds content of private repositories.
    """
    os.chmod(path, mode)
    shown = stat.S_IMODE(os.stat(path).st_mode)
    if shown & OTHERS_BITS & ~mode:
        raise StoreError(
            f"the state can't be made private: {path} was set to mode {mode:04o}, "
            f"and its file system still shows {shown:04o}",
            id="store/modes-ignored",
            hint="set state: to a folder on a disk that keeps modes, such as /var/lib/syncd, "
            "or mount this one with umask=0077",
        )


def share_with_group(path: Path, state_dir: Path) -> None:
    """Let the state folder's group read a file or a folder of the state, if it has a group.

    Raises OSError.
    """
    folder = os.stat(state_dir)
    if not _is_shared(folder):
        return
    found = os.lstat(path)
    if found.st_gid != folder.st_gid:
        os.chown(path, -1, folder.st_gid, follow_symlinks=False)
    mode = SHARED_MODE if stat.S_ISDIR(found.st_mode) else 0o640
    if stat.S_IMODE(found.st_mode) != mode and not stat.S_ISLNK(found.st_mode):
        os.chmod(path, mode)


def try_share_with_group(path: Path, state_dir: Path) -> None:
    """Share as `share` does; a file that cannot be shared stays private."""
    with suppress(OSError):
        share_with_group(path, state_dir)


def _stat(state_dir: Path) -> os.stat_result | None:
    try:
        return os.stat(state_dir)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        name = nearest_owner(state_dir)
        text = f"the state folder {state_dir} can't be read: {error.strerror}"
        raise NotOwnerError(text, owner=name) from error


def _not_owner(state_dir: Path, uid: int, addition: str = "") -> NotOwnerError:
    owner, me = owner_name(uid), owner_name(os.geteuid())
    text = f"the state folder {state_dir} belongs to {owner}, and you are {me}{addition}"
    return NotOwnerError(text, owner=owner)


def _is_shared(folder: os.stat_result) -> bool:
    return folder.st_mode & GROUP_READ_BITS == GROUP_READ_BITS


def _is_member(gid: int) -> bool:
    return gid == os.getegid() or gid in os.getgroups()


def _group_id(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise StoreError(
            f"state_group {group}: this machine knows no such group",
            id="store/unknown-state-group",
            hint=f"create it (sudo groupadd {group}), or correct state_group:",
        ) from error
