"""Creates the private folder in which one hook finds its files.

It holds the complete staged set, laid out like `/`, and the list of changes. It is a new folder
below STATE/staging with a name that cannot be guessed, mode 0700 with files 0600 (0700 where
executable), and it is removed when the hook is done. What a crash left is removed before the next
one is made.

With a `hook_user` all of it still belongs to us: an access list lets that user alone read it (mode
0750 with files 0640, of the user's group), and the folders above let others pass, but not list. So
neither a hook of another job nor a process that an earlier hook left can change what a validator
sees.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import struct
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from syncd import tree_walk
from syncd.deadline import Deadline
from syncd.errors import MirrorError, StoreError
from syncd.models import Kind
from syncd.ports import StagedFile

COPY_BYTES = 1 << 20
TRAVERSE_BITS = 0o011  # the group and others may pass, but not list
REMOVE_SECONDS = 60.0  # the rest is removed before the next hook of the job
ACL = "system.posix_acl_access"
OPEN_STAGING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class StagingDir:
    """STATE/staging/JOB-RANDOM with `tree` in it; made on entering, removed on leaving.

    `ids` is the user who may read it beside us, or None.
    """

    def __init__(
        self, state_dir: Path, job: str, ids: tuple[int, int, tuple[int, ...]] | None
    ) -> None:
        self._state_dir, self._ids = state_dir, ids
        self._start = sha256(job.encode()).hexdigest()[:16]
        self.folder = str(state_dir / "staging" / f"{self._start}-{secrets.token_hex(16)}")
        self.tree = f"{self.folder}/tree"
        self._folders = {self.tree}

    def __enter__(self) -> StagingDir:
        above = self._state_dir / "staging"
        try:
            os.makedirs(above, mode=0o700, exist_ok=True)
            for name in os.listdir(above):
                if name.startswith(f"{self._start}-"):  # we hold the job's lock: its owner is dead
                    remove(f"{above}/{name}")
            if self._ids is not None:
                for folder in (self._state_dir, above):
                    _allow_traversal(folder)
            os.mkdir(self.folder, 0o700)
            self._make_folder(self.tree)
        except OSError as error:
            raise _staging_error(self.folder, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove(self.folder)

    def write_files(self, files: Iterable[StagedFile], deadline: Deadline) -> None:
        """Write every file below `tree`. Raises StoreError, MirrorError.

        Links are made last, so that no file is written through one.
        """
        links = []
        try:
            for file in files:
                deadline.check()
                if file.kind is Kind.LINK:
                    links.append(file)
                else:
                    self._copy(file)
            for link in links:
                with link.open() as content:
                    target = content.read()
                self._make_parents(os.path.dirname(self.tree + link.path))
                os.symlink(target, os.fsencode(self.tree + link.path))
        except OSError as error:
            raise _staging_error(self.folder, error) from error

    def _copy(self, file: StagedFile) -> None:
        place = self.tree + file.path
        self._make_parents(os.path.dirname(place))
        descriptor = os.open(
            place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "wb", buffering=0) as copy, file.open() as content:
            self._set_permissions(descriptor, bool(file.mode & 0o111))
            shutil.copyfileobj(content, copy, COPY_BYTES)

    def _make_parents(self, place: str) -> None:
        """Make the folder and all above it, each private: os.makedirs sets the mode of the last
        only.
        """
        missing = []
        while place not in self._folders:
            missing.append(place)
            place = os.path.dirname(place)
        for each in reversed(missing):
            self._make_folder(each)
            self._folders.add(each)

    def _make_folder(self, place: str) -> None:
        os.mkdir(place, 0o700)
        if self._ids is not None:
            descriptor = os.open(place, OPEN_STAGING | os.O_NOFOLLOW)
            try:
                self._set_permissions(descriptor, True)
            finally:
                os.close(descriptor)

    def _set_permissions(self, descriptor: int, executable: bool) -> None:
        """Make the new entry private, or also readable for the group of the hook's user."""
        if self._ids is None:
            os.fchmod(descriptor, 0o700 if executable else 0o600)
            return
        os.fchown(descriptor, -1, self._ids[1])
        os.fchmod(descriptor, 0o750 if executable else 0o640)

    def add_file(self, name: str, text: str) -> str:
        """Write a file beside the tree, and return its path."""
        place = f"{self.folder}/{name}"
        try:
            with open(place, "x", encoding="utf-8", opener=_private) as note:
                self._set_permissions(note.fileno(), False)
                note.write(text)
        except OSError as error:
            raise _staging_error(self.folder, error) from error
        return place

    def grant_access(self) -> None:
        """Let the hook's user read everything. Nothing in the folder changes from now on."""
        if self._ids is None:
            return
        try:
            descriptor = os.open(self.folder, OPEN_STAGING | os.O_NOFOLLOW)
            try:
                _grant_user(descriptor, *self._ids[:2])
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _staging_error(self.folder, error) from error


def _grant_user(folder: int, uid: int, gid: int) -> None:
    """Let one user pass and list the folder, by an access list or else by the user's group."""
    try:
        os.setxattr(folder, ACL, _access_list(uid))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.fchown(folder, -1, gid)
        os.fchmod(folder, 0o750)


def _access_list(uid: int) -> bytes:
    """Return a POSIX ACL: everything for the owner, r-x for the user, nothing for others.

    Source: linux/posix_acl_xattr.h, version 2.
    """
    no_id = 0xFFFFFFFF
    entries = (
        (0x01, 7, no_id),
        (0x02, 5, uid),
        (0x04, 0, no_id),
        (0x10, 5, no_id),
        (0x20, 0, no_id),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _allow_traversal(folder: Path) -> None:
    """Add the right to pass the folder to its mode."""
    descriptor = os.open(folder, OPEN_STAGING)
    try:
        mode = os.fstat(descriptor).st_mode & 0o7777
        if mode & TRAVERSE_BITS != TRAVERSE_BITS:
            os.fchmod(descriptor, mode | TRAVERSE_BITS)
    finally:
        os.close(descriptor)


def remove(folder: str) -> None:
    """Remove the folder, whatever a hook did to the modes and the depth in it.

    What can't be removed, or would take too long, is tried again before the next hook.
    """
    with suppress(OSError):
        above = os.open(os.path.dirname(folder), OPEN_STAGING)
        try:
            tree_walk.remove(above, os.path.basename(folder), tree_walk.time_limit(REMOVE_SECONDS))
        finally:
            os.close(above)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _staging_error(folder: str, error: OSError) -> StoreError | MirrorError:
    id_, hint = {
        errno.ENOSPC: (
            "store/disk-full",
            "free some space on the disk of the state folder; the next run goes on by itself",
        ),
        errno.ENAMETOOLONG: (
            "store/path-too-long",
            "set state: to a folder with a shorter path",
        ),
        errno.EEXIST: (
            "store/colliding-names",
            (
                "two names of the job are one to the disk of the state folder: set state: to a disk"
                " that tells them apart, or rename one of them"
            ),
        ),
    }.get(
        error.errno or 0,
        ("store/not-writable", "the state folder must be writable by the user who runs syncd"),
    )
    return StoreError(
        f"the files for a hook can't be laid out in {folder}: {error.strerror or error}",
        id=id_,
        hint=hint,
    )
