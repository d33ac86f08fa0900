"""The private place where one hook finds what it is to look at: the complete staged set, laid out like `/`, and the list of changes.

Below STATE/staging, 0700 with files 0600 (0700 where executable), gone when the hook is done; what a crash left goes before the next
one is made. With a `hook_user` it belongs to that user, and the folders above it let others through, but not look.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from syncd.clock import Patience
from syncd.engine.ports import StagedFile
from syncd.errors import MirrorError, StoreError
from syncd.models import Kind

COPY_BYTES = 1 << 20
THROUGH = 0o711


class Workplace:
    """STATE/staging/JOB-RANDOM with `tree` in it; made on entering, gone on leaving. `ids` is whom it is given to, None for us."""

    def __init__(self, state_dir: Path, job: str, ids: tuple[int, int, tuple[int, ...]] | None) -> None:
        self._state_dir, self._ids = state_dir, ids
        self._start = sha256(job.encode()).hexdigest()[:16]
        self.folder = str(state_dir / "staging" / f"{self._start}-{secrets.token_hex(8)}")
        self.tree = f"{self.folder}/tree"
        self._folders = {self.tree}

    def __enter__(self) -> Workplace:
        above = self._state_dir / "staging"
        try:
            os.makedirs(above, mode=0o700, exist_ok=True)
            for left in above.glob(f"{self._start}-*"):  # the job is locked by us: whoever made it is dead
                remove(str(left))
            if self._ids is not None:
                for folder in (self._state_dir, above):
                    os.chmod(folder, THROUGH)
            os.mkdir(self.folder, 0o700)
            os.mkdir(self.tree, 0o700)
        except OSError as error:
            raise _trouble(self.folder, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        remove(self.folder)

    def lay(self, files: Iterable[StagedFile], patience: Patience) -> None:
        """Every file is below `tree`; links come last, so that no file is written through one. Raises StoreError, MirrorError."""
        links = []
        try:
            for file in files:
                patience.check()
                if file.kind is Kind.LINK:
                    links.append(file)
                else:
                    self._copy(file)
            for link in links:
                with link.open() as content:
                    target = content.read()
                self._folder(os.path.dirname(self.tree + link.path))
                os.symlink(target, os.fsencode(self.tree + link.path))
        except OSError as error:
            raise _trouble(self.folder, error) from error

    def _copy(self, file: StagedFile) -> None:
        place = self.tree + file.path
        self._folder(os.path.dirname(place))
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700 if file.mode & 0o111 else 0o600)
        with open(descriptor, "wb", buffering=0) as laid, file.open() as content:
            shutil.copyfileobj(content, laid, COPY_BYTES)

    def _folder(self, place: str) -> None:
        """Made with all above it, each 0700: os.makedirs gives its mode to the last alone."""
        if place not in self._folders:
            self._folder(os.path.dirname(place))
            os.mkdir(place, 0o700)
            self._folders.add(place)

    def note(self, name: str, text: str) -> str:
        """A file beside the tree; its path."""
        place = f"{self.folder}/{name}"
        try:
            with open(place, "x", encoding="utf-8", opener=_private) as note:
                note.write(text)
        except OSError as error:
            raise _trouble(self.folder, error) from error
        return place

    def give(self) -> None:
        """All of it belongs to the user of the hook."""
        if self._ids is None:
            return
        uid, gid, _ = self._ids
        try:
            for place, folders, names in os.walk(self.folder):
                for name in [*folders, *names]:
                    os.chown(os.path.join(place, name), uid, gid, follow_symlinks=False)
            os.chown(self.folder, uid, gid)
        except OSError as error:
            raise _trouble(self.folder, error) from error


def remove(folder: str) -> None:
    """The folder is gone, whatever a hook did to the modes in it. What the disk does not let go is tried again before the next hook."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        for place, folders, _ in os.walk(folder):
            for name in (place, *(os.path.join(place, name) for name in folders)):
                with suppress(OSError):
                    if not os.path.islink(name):
                        os.chmod(name, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _trouble(folder: str, error: OSError) -> StoreError | MirrorError:
    hints = {
        errno.ENOSPC: "free some space on the disk of the state folder; the next run goes on by itself",
        errno.ENAMETOOLONG: "set state: to a folder with a shorter path",
        errno.EEXIST: "two names of the job are one to the disk of the state folder: set state: to a disk that tells them apart, or rename one of them",
    }
    return StoreError(f"can't lay out the files for a hook in {folder}: {error.strerror or error}", hint=hints.get(error.errno or 0, "the state folder must be writable by the user who runs syncd"))
