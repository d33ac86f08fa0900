"""Turn `owner:` of a job into user and group ids, and check that this process may give files to
them.
"""

from __future__ import annotations

import os

from syncd.errors import MirrorError
from syncd.owners import Ids, user_and_group_ids


def look_up_owner(owner: str) -> Ids:
    """Return the ids of `user:group`, `user` or numbers; None for each part that is not named.

    Raises MirrorError for a name that this machine does not know.
    """
    try:
        return user_and_group_ids(owner) if owner else (None, None)
    except KeyError as error:
        raise MirrorError(
            f"owner {owner}: this machine knows no such user or group",
            hint="create it, or correct owner:",
            id="mirror/unknown-owner",
        ) from error


def resolve_owner(owner: str) -> Ids:
    """Return the ids as `look_up_owner` does, for a run that writes files.

    Raises MirrorError also when only root may give files to that owner.
    """
    uid, gid = look_up_owner(owner)
    if uid is None or os.geteuid() == 0:
        return uid, gid
    is_own_group = gid is None or gid in {os.getegid(), *os.getgroups()}
    if uid != os.geteuid() or not is_own_group:
        raise MirrorError(
            f"owner {owner}: only root may give files away",
            hint="run syncd as root, or leave owner: out",
            id="mirror/owner-needs-root",
        )
    return uid, gid


__all__ = ["look_up_owner", "resolve_owner"]
