"""What `owner:` means on this machine right now. Standard library only: the full run and the quick check both ask here.

A name is looked up each time, because users and groups are renumbered and the files follow the name, not the number.
"""

from __future__ import annotations

import grp
import pwd

Ids = tuple[int | None, int | None]


def ids_of(owner: str) -> Ids:
    """The user and group id of `user:group`, `user` or numbers; None for what is not named. Raises KeyError for an unknown name."""
    user, _, group = owner.partition(":")
    uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    if not group:
        return uid, None
    return uid, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


__all__ = ["Ids", "ids_of"]
