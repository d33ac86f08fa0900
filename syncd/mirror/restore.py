"""Write an entry of the trash back to disk, with the writer of the runs.

What is there goes into the trash first, also where syncd wrote it. The ledger is left alone: what
is restored is not syncd's. Where it may be restored to is decided by the caller.
"""

from __future__ import annotations

import os
import posixpath
import secrets
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO

from msgspec import Struct

from syncd.errors import MirrorError
from syncd.mirror.dirfd import DirectoryMissingError, open_directory, translated_errors
from syncd.mirror.disk_mirror import DiskMirror, missing_parents
from syncd.mirror.free_space import check_free_space
from syncd.mirror.paths import names_below
from syncd.mirror.restore_journal import Attempt, journaled, one_restore
from syncd.mirror.trash import Trash, TrashEntry
from syncd.models import Action, ActionKind, Kind, LocalFile, WantedFile
from syncd.ports import ApplyOutcome, Target
from syncd.trash_ids import trash_id

REASON = "replaced by trash restore"


class Place(Struct, frozen=True):
    """Where an entry is restored to, and with what mode and owner (None leaves ours).

    `root` is the folder down to which links are followed. `dir_mode`, `dir_uid` and `dir_gid` are
    for folders that are missing: a folder is not given to the owner of a file in it.
    """

    path: str
    root: str
    mode: int
    uid: int | None = None
    gid: int | None = None
    dir_mode: int = 0o755
    dir_uid: int | None = None
    dir_gid: int | None = None


class Restored(Struct, frozen=True):
    """What a restore did.

    `is_changed` is false where everything was so already. `kept` is the trash entry of what it
    replaced, `notes` what could not be carried over.
    """

    is_changed: bool
    kept: str | None = None
    notes: tuple[str, ...] = ()


class TrashContents:
    """The contents of the trash, for the writer."""

    def __init__(self, trash: Trash, entry: TrashEntry) -> None:
        self._trash, self._entry = trash, entry

    def open(self, blob: str) -> BinaryIO:
        """Open the content at its start. Raises KeyError."""
        with self.open_unverified(blob) as content:
            return BytesIO(content.read())

    def open_unverified(self, blob: str) -> BinaryIO:
        """Open the content without verifying it. Raises KeyError."""
        try:
            return open(self._trash.content_of(self._entry), "rb")
        except OSError as error:
            raise KeyError(blob) from error

    def discard(self, blob: str) -> None:
        """Leave the content: damaged bytes may still be worth something to a person."""


def restore(disk: DiskMirror, entry: TrashEntry, place: Place) -> Restored:
    """Write the entry's content to the place, or leave everything and say why.

    Raises MirrorError.
    """
    check_whole(disk.trash, entry)
    with translated_errors("restore to"), one_restore(disk.trash.directory):
        _refuse_links(place)
        target = Target(place.root, None, size=entry.size)
        action = _action(entry, place, disk.scan({place.path: target})[place.path])
        if action is None:
            return Restored(False)
        check_free_space([action], disk.trash_copies([action]))
        intent = secrets.token_hex(6)
        folder, made = posixpath.dirname(place.path), missing_parents([action])
        with journaled(disk.trash.directory, Attempt(intent, place.root, folder, made)):
            contents = TrashContents(disk.trash, entry)
            folders = dict.fromkeys(made, _folder(place))
            outcome = disk.apply(intent, [action], contents, frozenset(), folders)
            return _result(action, outcome)


def check_whole(trash: Trash, entry: TrashEntry) -> None:
    """Raise MirrorError where the content is not the one that was kept."""
    if not trash.is_whole(entry.content, entry.size):
        raise MirrorError(
            f"the trash's copy of {entry.path} ({entry.id}) is damaged: its bytes are not "
            "those that were kept",
            id="mirror/trash-damaged",
            path=entry.path,
            hint=f"the disk has changed it; what is left of it is {trash.content_of(entry)}",
        )


def _refuse_links(place: Place) -> None:
    """Raise UnsafePathError where a link below the root leads to the place."""
    names_below(place.path, place.root)
    with suppress(DirectoryMissingError):
        os.close(open_directory(place.root, posixpath.dirname(place.path)))


def _action(entry: TrashEntry, place: Place, found: LocalFile | None) -> Action | None:
    """Return what to do with what is at the place now; None where it is as wanted already."""
    wanted = WantedFile(
        entry.content,
        place.mode if entry.kind is Kind.FILE else 0,
        entry.kind,
        place.uid,
        place.gid,
        source=f"trash entry {entry.id}",
        size=entry.size,
        root=place.root,
        dir_mode=place.dir_mode,
    )
    _refuse_other_kinds(place.path, found)
    if not wanted.same_content(found) or found is None:
        is_there = found is not None
        kind = ActionKind.RESTORE
        return Action(kind, place.path, wanted, None, found, REASON, replaces_foreign=is_there)
    if wanted.same_permissions(found):
        return None
    return Action(ActionKind.MODE, place.path, wanted, None, found, REASON)


def _folder(place: Place) -> WantedFile:
    """Return mode and owner of the folders that a restore makes."""
    return WantedFile(
        "",
        place.dir_mode,
        Kind.DIRECTORY,
        place.dir_uid,
        place.dir_gid,
        root=place.root,
        dir_mode=place.dir_mode,
    )


def _refuse_other_kinds(path: str, found: LocalFile | None) -> None:
    if found is None:
        return
    if found.problem is not None:
        raise MirrorError(
            f"{found.problem}; nothing was restored",
            id="mirror/restore-blocked",
            path=path,
            hint="--to FILE restores to another place",
        )
    if found.kind in (Kind.FILE, Kind.LINK):
        return
    what = "a folder" if found.kind is Kind.DIRECTORY else "a device, socket or pipe"
    raise MirrorError(
        f"{path} is {what}; a restore replaces only files and links",
        id="mirror/restore-over-other",
        path=path,
        hint="move it away, or restore to another place with --to FILE",
    )


def _result(action: Action, outcome: ApplyOutcome) -> Restored:
    done = outcome.outcomes[action.path]
    errors = [error for error in (done.error, *outcome.other_errors) if error is not None]
    if errors:
        raise errors[0]
    before = done.before
    kept = trash_id(action.path, before) if before is not None else None
    return Restored(True, kept, outcome.notes)


__all__ = ["Place", "Restored", "check_whole", "restore"]
