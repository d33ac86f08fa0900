"""Downloads that broke off, kept to be continued: one file per content, at most a day, while the disk has room to finish it.

`partial/SHA256` holds the bytes so far and `partial/SHA256.json` what the server calls them (a strong
ETag). Who writes one holds its lock, so that what nobody holds is of a run that died. Nothing here is
believed: the whole content is hashed when it is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Struct

from syncd.errors import BadResponseError
from syncd.git_objects import blob_hasher
from syncd.store.location import open_nofollow

KEPT_SECONDS = 24 * 3600.0
READ_BYTES = 1 << 20
TEMPORARY = "tmp-"
MARGIN_BYTES = 1 << 20  # of the disk, which stay free


class Validator(Struct, frozen=True):
    """What the bytes are a part of: the server's strong ETag for the whole, and its size in bytes."""

    etag: str
    size: int


class PartialFile:
    """One content on its way here, its file open and locked. `received_bytes` are here already."""

    def __init__(
        self, path: str, file: FileIO, sha256: str, size: int, keep: Callable[[str, str], None]
    ) -> None:
        self.path, self._file, self._sha256, self._size = path, file, sha256, size
        self.etag, self.received_bytes, self.is_complete = "", 0, False
        self._keep = keep

    def resume(self, now: float) -> None:
        """What an earlier run left counts, where it can be continued."""
        found = _validator(self.path)
        length = os.fstat(self._file.fileno()).st_size
        is_part = found is not None and found.size == self._size and 0 < length < self._size
        if is_part and _is_young(self.path, now) and _has_room(self.path, self._size - length):
            self.etag, self.received_bytes = found.etag if found is not None else "", length
        else:
            self.restart("")

    def restart(self, etag: str) -> None:
        """Nothing is here; what comes now can be continued where `etag` is not empty. Raises OSError."""
        self._file.truncate(0)
        self.etag, self.received_bytes = etag, 0
        if etag and not os.path.basename(self.path).startswith(TEMPORARY):
            note = open_nofollow(f"{self.path}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(note, "wb") as file:
                file.write(msgspec.json.encode(Validator(etag, self._size)))
        else:
            self.etag = ""
            Path(f"{self.path}.json").unlink(missing_ok=True)

    def complete(self, chunks: Iterable[bytes]) -> str:
        """Append the rest; the whole content is in the cache then, under its git id, which is returned.

        Raises BadResponseError where it is other content than was asked for (nothing is kept then),
        OSError for our own disk, and what `chunks` raises, where what came is kept.
        """
        git, sha256 = blob_hasher(self._size), hashlib.sha256()
        for chunk in self._here():
            git.update(chunk)
            sha256.update(chunk)
        for chunk in chunks:
            if self.received_bytes + len(chunk) > self._size:
                self._refuse(f"more than the {self._size} bytes that it has")
            git.update(chunk)
            sha256.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
            self.received_bytes += len(chunk)
        if self.received_bytes != self._size or sha256.hexdigest() != self._sha256:
            wanted = f"the content {self._sha256} ({self._size} bytes)"
            self._refuse(f"{self.received_bytes} bytes that are not {wanted}")
        self._file.close()  # some disks say only now what became of a write (close(2))
        self._keep(self.path, git.hexdigest())
        self.is_complete = True
        return git.hexdigest()

    def _here(self) -> Iterator[bytes]:
        self._file.seek(0)
        left = self.received_bytes
        while left and (chunk := self._file.read(min(left, READ_BYTES))):
            left -= len(chunk)
            yield chunk
        self._file.seek(self.received_bytes)
        self._file.truncate(self.received_bytes)

    def _refuse(self, text: str) -> None:
        self.restart("")
        raise BadResponseError(text, hint="nothing of it is used; the next run asks again")

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the next run can continue it."""
        return bool(self.etag) and self.received_bytes > 0 and not self.is_complete


class PartialDownloads:
    """The partial downloads of one cache."""

    def __init__(self, folder: str, now: Callable[[], float] = time.time) -> None:
        self.folder, self._now = folder, now

    @contextmanager
    def one(
        self, sha256: str, size: int, keep: Callable[[str, str], None]
    ) -> Iterator[PartialFile]:
        """This content's partial file; one without a past where another run is at work on it.

        `keep(path, blob)` puts the complete file into the cache. Raises OSError.
        """
        for private in (os.path.dirname(self.folder), self.folder):
            os.makedirs(private, mode=0o700, exist_ok=True)
        path, file = self._locked(sha256)
        lock = os.dup(file.fileno())  # held until the complete file has its place
        partial = PartialFile(path, file, sha256, size, keep)
        try:
            partial.resume(self._now())
            yield partial
        except OSError:
            partial.etag = ""  # our own disk failed: what it holds of this is given back
            raise
        finally:
            if partial.is_complete:
                Path(f"{path}.json").unlink(missing_ok=True)
            elif not partial.is_worth_keeping:
                _remove(path)
            with suppress(OSError):  # complete, it was closed before; else nothing rests on it
                file.close()
            os.close(lock)

    def _locked(self, sha256: str) -> tuple[str, FileIO]:
        path = f"{self.folder}/{sha256}"
        while True:
            file = FileIO(path, "r+b", opener=_made_if_needed)
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                path = f"{self.folder}/{TEMPORARY}{secrets.token_hex(8)}"
                continue
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # completed or cleared away just before it was ours

    def clear(self) -> int:
        """What no run holds and none can continue is gone; how many bytes that freed. Raises OSError."""
        freed = 0
        for path in sorted(Path(self.folder).glob("*")):
            if path.suffix == ".json":
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
                continue
            freed += remove_if_abandoned(str(path), self._can_be_continued)
        return freed

    def _can_be_continued(self, path: str) -> bool:
        found = _validator(path)
        if found is None or not _is_young(path, self._now()):
            return False
        return _has_room(path, found.size - os.stat(path).st_size)


def create_locked(path: str) -> int:
    """A descriptor of a new, empty file, which its lock marks as somebody's work. Raises OSError."""
    while True:
        descriptor = open_nofollow(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # cleared away just before it was locked


def remove_if_abandoned(path: str, is_spared: Callable[[str], bool] = lambda _: False) -> int:
    """Remove a file whose writer holds no lock on it any more; how many bytes that freed. Raises OSError."""
    try:
        descriptor = open_nofollow(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_spared(path):
            return 0
        size = os.fstat(descriptor).st_size
        _remove(path)
        return size
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


def _made_if_needed(path: str, _flags: int) -> int:
    return open_nofollow(path, os.O_RDWR | os.O_CREAT)


def _validator(path: str) -> Validator | None:
    try:
        return msgspec.json.decode(Path(f"{path}.json").read_bytes(), type=Validator)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_young(path: str, now: float) -> bool:
    return abs(now - os.stat(path).st_mtime) <= KEPT_SECONDS


def _has_room(path: str, more_bytes: int) -> bool:
    free = os.statvfs(os.path.dirname(path))
    return more_bytes + MARGIN_BYTES <= free.f_bavail * free.f_frsize


def _remove(path: str) -> None:
    for name in (path, f"{path}.json"):
        with suppress(FileNotFoundError):
            os.unlink(name)
