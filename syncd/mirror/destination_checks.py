"""Find what an operator should know of a destination before trusting it.

Who else may write there, and what it is mounted from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from msgspec import Struct

from syncd.mirror.cleanup import with_parents
from syncd.mirror.dirfd import broken_link_reason
from syncd.mirror.free_space import nearest_existing_dir
from syncd.safe_open import untrusted_link


class DestinationWarning(Struct, frozen=True):
    """One thing to know of a destination. `id` is the stable id of which. `is_error`: a sync would
    fail for it.
    """

    id: str
    path: str
    text: str
    hint: str
    is_error: bool = False


def destination_warnings(to: str, directory: bool) -> Iterator[DestinationWarning]:
    """Yield everything that prevents a sync to the destination or that the operator should know."""
    place = to if directory else os.path.dirname(to) or "/"
    try:
        existing = nearest_existing_dir(place)
    except OSError as error:
        yield DestinationWarning(
            "doctor/destination-unreadable",
            to,
            f"{place} can't be looked at: {error.strerror}",
            "run it as the user who runs syncd",
            is_error=True,
        )
        return
    broken = broken_link_reason(os.path.dirname(to) or "/")
    if broken is not None:
        yield DestinationWarning(
            "doctor/broken-link", to, broken.message, broken.hint or "", is_error=True
        )
        return
    foreign = untrusted_link(place) if os.geteuid() == 0 else None
    if foreign is not None:
        yield DestinationWarning(
            "doctor/untrusted-link", to, foreign.message, foreign.hint or "", is_error=True
        )
        return
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        yield DestinationWarning(
            "doctor/not-writable",
            to,
            f"{existing} can't be written to",
            "change its owner, or run syncd as a user who may write there; "
            "under systemd `syncd init --systemd` opens it",
            is_error=True,
        )
    if not directory and os.path.ismount(to):
        yield DestinationWarning(
            "doctor/mounted-file",
            to,
            f"{to} is a mount point of its own",
            "a bind-mounted file can't be replaced; mirror the folder that holds it instead",
            is_error=True,
        )
    if directory and os.path.islink(to):
        yield DestinationWarning(
            "doctor/destination-is-a-link",
            to,
            f"{to} is a link to {os.readlink(to)}",
            f"write to: {os.path.realpath(to)}/ instead; syncd writes through no link",
            is_error=True,
        )
    yield from writable_by_others(to)


def writable_by_others(to: str) -> Iterator[DestinationWarning]:
    """Yield the directories above `to` in which another user could replace a directory.

    syncd stays safe there, because it follows no link below `to`; but what is mirrored does not
    protect a place that others may replace.
    """
    for path in with_parents(os.path.dirname(to)):
        try:
            found = os.stat(path)
        except OSError:
            continue
        sticky = bool(found.st_mode & stat.S_ISVTX)
        if found.st_mode & stat.S_IWOTH and not sticky:
            yield DestinationWarning(
                "doctor/writable-by-all",
                to,
                f"{path} is writable by all users",
                f"chmod o-w {path}",
            )
        elif found.st_uid not in (0, os.geteuid()):
            yield DestinationWarning(
                "doctor/folder-of-another-user",
                to,
                f"{path} belongs to another user (uid {found.st_uid})",
                f"the owner of {path} can replace what is mirrored below it; chown it, "
                "if that is not meant",
            )
