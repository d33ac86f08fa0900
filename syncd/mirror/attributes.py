"""Carries a file's ACL, `user.*` attributes and security label to the file that replaces it.

They are also carried to the file's copy in another tree.

Other attributes belong to the old bytes (file capabilities, integrity hashes) or to the kernel:
they are not carried, and those that an administrator may have set are named.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import struct
from collections import defaultdict

from syncd.models import Action, Kind

ACCESS_ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
ACLS = (ACCESS_ACL, DEFAULT_ACL)
LABELS = ("security.selinux", "security.SMACK64")
CONTENT_ATTRIBUTES = ("security.ima", "security.evm")  # the kernel makes new ones
ACL_VERSION, NO_ID = 2, 0xFFFFFFFF  # linux/posix_acl_xattr.h
USER_OBJ, GROUP_OBJ, MASK, OTHER = 0x01, 0x04, 0x10, 0x20  # linux/posix_acl.h
UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
NO_ATTRIBUTE = (errno.ENODATA, *UNSUPPORTED)


class LostAttributes:
    """What could not be carried, for one note of the run."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, attribute: str, path: str, reason: str) -> None:
        """Record that `path` lost `attribute`."""
        self._paths[attribute, reason].append(path)

    def notes(self) -> tuple[str, ...]:
        """Return one line for each attribute and reason."""
        return tuple(
            f"{attribute} of {paths[0]}{_more(paths)} was not carried to the new file: {reason}"
            for (attribute, reason), paths in self._paths.items()
        )


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def open_replaced(folder: int, action: Action) -> int | None:
    """Open the file in `folder` that the action replaces, if any, with O_PATH.

    The caller closes the descriptor. Raises OSError.
    """
    if action.expected is None or action.expected.kind is not Kind.FILE:
        return None
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(posixpath.basename(action.path), flags, dir_fd=folder)


def copy_attributes(descriptor: int, new: int, mode: int, path: str, lost: LostAttributes) -> None:
    """Give the open file or folder `new` the attributes of another one, and then `mode`.

    With an ACL the group bits of the mode are its mask, so that `mode` is exact in any case.
    `descriptor` may be one of O_PATH. What fails is noted in `lost`.
    """
    old = f"/proc/self/fd/{descriptor}"
    names, present = _names(old, path, lost), set(_names(new, path, lost))
    changed = False
    for name in names:
        if not is_copied(name):
            if name not in (*CONTENT_ATTRIBUTES, *present):
                lost.add(name, path, "it belongs to the old content")
            continue
        changed |= _copy(old, new, name, path, lost)
    for name in present.difference(names):
        if name in ACLS:  # inherited from the folder; the old file has none
            changed |= _remove(new, name, path, lost)
    if changed and stat.S_IMODE(os.fstat(new).st_mode) != mode:
        os.chmod(new, mode)


def set_permissions_by_acl(file: str, mode: int) -> bool:
    """Set the nine permission bits by the ACL, which leaves the setgid bit alone.

    False where the file system has no ACLs. Raises OSError.
    """
    try:
        os.setxattr(file, ACCESS_ACL, _acl_of(_value(file, ACCESS_ACL), mode))
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def _acl_of(present: bytes | None, mode: int) -> bytes:
    """Return the ACL with the permissions of `mode`,
    its entries for other users and groups kept.
    """
    header, entry = struct.Struct("<I"), struct.Struct("<HHI")
    entries = list(entry.iter_unpack(present[header.size :])) if present else []
    if not entries:
        entries = [(tag, 0, NO_ID) for tag in (USER_OBJ, GROUP_OBJ, OTHER)]
    group = MASK if any(tag == MASK for tag, _, _ in entries) else GROUP_OBJ
    permissions = {USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    packed = (entry.pack(tag, permissions.get(tag, old), who) for tag, old, who in entries)
    return header.pack(ACL_VERSION) + b"".join(packed)


def is_copied(name: str) -> bool:
    """Return whether the attribute belongs to the file and not to its bytes."""
    return name in (*ACLS, *LABELS) or name.startswith("user.")


def _names(file: int | str, path: str, lost: LostAttributes) -> list[str]:
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            lost.add("every attribute", path, error.strerror or str(error))
        return []


def _copy(old: str, new: int, name: str, path: str, lost: LostAttributes) -> bool:
    try:
        value = os.getxattr(old, name)
        if _value(new, name) == value:
            return False
        os.setxattr(new, name, value)
    except OSError as error:
        if error.errno != errno.ENODATA:  # it has just been removed
            lost.add(name, path, error.strerror or str(error))
        return False
    return name in ACLS


def _value(file: int | str, name: str) -> bytes | None:
    try:
        return os.getxattr(file, name)
    except OSError as error:
        if error.errno in NO_ATTRIBUTE:
            return None
        raise


def _remove(new: int, name: str, path: str, lost: LostAttributes) -> bool:
    try:
        os.removexattr(new, name)
    except OSError as error:
        lost.add(f"the absence of {name}", path, error.strerror or str(error))
        return False
    return True
