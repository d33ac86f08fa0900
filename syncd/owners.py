"""Resolve `owner:` to the ids of this machine, and ids to names.

A name is resolved each time: users and groups are renumbered, and the files follow the name, not
the number. Standard library only, because the nothing-to-do check uses it.
"""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress

Ids = tuple[int | None, int | None]


def user_and_group_ids(owner: str) -> Ids:
    """Return the user and group id of `user:group`, `user` or numbers.

    None for what is not named. Raises KeyError for an unknown name.
    """
    user, _, group = owner.partition(":")
    uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    if not group:
        return uid, None
    return uid, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def owner_name(uid: int) -> str:
    """Return the name of a user, or `#1234` (as sudo takes it) for an unknown one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def nearest_owner(path: str | os.PathLike[str]) -> str:
    """Return who may change access to `path`: its owner.

    Where it can't be read, that of the nearest directory above it that can.
    """
    at = os.path.abspath(path)
    while True:
        with suppress(OSError):
            return owner_name(os.stat(at).st_uid)
        if at == "/":
            return owner_name(0)
        at = os.path.dirname(at)


__all__ = ["Ids", "nearest_owner", "owner_name", "user_and_group_ids"]
