"""Set mode and owner of directories that syncd made.

They are changed through a descriptor of the very directory that was scanned, through no link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror.attributes import set_permissions_by_acl
from syncd.mirror.dirfd import changed_error, mirror_error
from syncd.mirror.file_ops import chown_id
from syncd.mirror.metadata import check_folder
from syncd.mirror.scan import scan_directory
from syncd.models import PERMISSIONS, Action, ActionKind, LocalFile, WantedFile

SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
OWNER_RWX = stat.S_IRWXU  # to list, make and remove names in a folder; root needs none of it


def change_folder(
    folder: int, name: str, path: str, want: WantedFile, expect: LocalFile | None
) -> LocalFile:
    """Give the directory `name` in the open `folder` the wanted mode and owner; return the result.

    What is in it is not touched. Raises ChangedUnderneathError when it is not the one, or not as,
    `expect` says; MirrorError.
    """
    found = scan_directory(folder, name, path, os.fstat(folder).st_dev)
    if found is None or found != expect:
        raise changed_error(path, f"{path} has changed since it was scanned")
    descriptor = os.open(
        name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder
    )
    try:
        opened = os.fstat(descriptor)
        if (opened.st_dev, opened.st_ino) != (found.stat.device, found.stat.inode):
            raise changed_error(path, f"{path} has changed since it was scanned")
        set_mode_and_owner(descriptor, want, opened.st_mode)
        after = os.fstat(descriptor)
        check_folder(path, want.mode, after, want.uid, want.gid)
    except OSError as error:
        refused = mirror_error("change the mode or owner of", path, error)
        if error.errno == errno.EPERM:
            refused.hint = (
                f"it belongs to uid {found.uid}, and only its owner and root may: give it back, "
                "or write in dir_mode: or owner: how it is, or set drift: report"
            )
        raise refused from error
    finally:
        os.close(descriptor)
    return replace(found, mode=stat.S_IMODE(after.st_mode), uid=after.st_uid, gid=after.st_gid)


def set_mode_and_owner(descriptor: int, want: WantedFile, mode: int) -> None:
    """Give the open directory the wanted owner and permissions.

    `mode` is what it had: the setgid and sticky bits are not syncd's, and stay. Raises OSError.
    """
    handle = f"/proc/self/fd/{descriptor}"  # works for O_PATH too, whatever the mode
    if want.uid is not None or want.gid is not None:
        os.chown(handle, chown_id(want.uid), chown_id(want.gid))
    special = stat.S_IMODE(mode) & ~PERMISSIONS
    if stat.S_IMODE(mode) != want.mode | special:
        set_mode(handle, want.mode | special)


def set_mode(handle: str, mode: int) -> None:
    """Set the directory's mode. Raises OSError.

    Under a unit with RestrictSUIDSGID= every chmod with a setgid bit is refused, also of one that
    is there, and a chmod without it takes it away. An ACL changes the permissions alone: so a
    setgid bit stays where the file system has ACLs.
    """
    try:
        os.chmod(handle, mode)
    except PermissionError:
        if not mode & SET_ID_BITS:
            raise
        if os.stat(
            handle
        ).st_mode & SET_ID_BITS != mode & SET_ID_BITS or not set_permissions_by_acl(handle, mode):
            os.chmod(handle, mode & ~SET_ID_BITS)


def refuse_lockout(actions: Iterable[Action], made: Collection[str]) -> None:
    """Raise MirrorError when directories would get a mode that keeps syncd itself out.

    Then nothing in them could be changed any more, not even that.
    """
    if os.geteuid() == 0:
        return
    for action in actions:
        want = action.wanted
        makes = action.kind in (ActionKind.WRITE, ActionKind.RESTORE) and any(
            action.path.startswith(f"{folder}/") for folder in made
        )
        if (
            want is not None
            and (action.is_directory or makes)
            and want.dir_mode & OWNER_RWX != OWNER_RWX
        ):
            what = action.path if action.is_directory else "the directories it makes"
            raise MirrorError(
                f"dir_mode {want.dir_mode:04o} would keep syncd itself out of {what}; "
                "nothing was changed",
                id="mirror/dir-mode-locks-out",
                path=action.path,
                hint="let the owner read, write and enter: "
                f'dir_mode: "{want.dir_mode | OWNER_RWX:04o}"; only root can do without',
            )
