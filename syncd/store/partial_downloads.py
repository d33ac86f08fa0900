"""Keeps interrupted downloads to be continued: one file per content, at most a day, while the disk
has room to finish it.

`partial/SHA256` holds the bytes so far, and `partial/SHA256.json` what the server calls them (a
strong ETag). A process that writes one holds its lock, so a file without a lock belongs to a run
that died. Nothing here is trusted: the whole content is hashed when it is complete.
"""

from __future__ import annotations

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
from syncd.file_lock import lock_descriptor
from syncd.git_objects import blob_hasher
from syncd.store.location import open_nofollow

KEPT_SECONDS = 24 * 3600.0
READ_BYTES = 1 << 20
TEMPORARY = "tmp-"
FREE_MARGIN_BYTES = 1 << 20  # stay free on the disk


class Validator(Struct, frozen=True):
    """What the bytes are a part of: the strong ETag of the whole content, and its size in bytes."""

    etag: str
    size: int


class PartialFile:
    """One content being downloaded: its file is open and locked, and holds `received_bytes`."""

    def __init__(
        self, path: str, file: FileIO, sha256: str, size: int, move_in: Callable[[str, str], None]
    ) -> None:
        self.path, self._file, self._sha256, self._size = path, file, sha256, size
        self.etag, self.received_bytes, self.is_complete = "", 0, False
        self._move_in = move_in

    def resume(self, now: float) -> None:
        """Continue what an earlier run left, where that is possible; else restart."""
        found = _validator(self.path)
        length = os.fstat(self._file.fileno()).st_size
        is_part = found is not None and found.size == self._size and 0 < length < self._size
        if is_part and _is_recent(self.path, now) and _has_room(self.path, self._size - length):
            self.etag, self.received_bytes = found.etag if found is not None else "", length
        else:
            self.restart("")

    def restart(self, etag: str) -> None:
        """Begin with nothing. What is received now can be continued where `etag` is not empty.

        Raises OSError.
        """
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
        """Append the remaining chunks, move the content into the cache, and return its git id.

        Raises BadResponseError for other content than was requested (nothing is kept then), OSError
        for our own disk, and what `chunks` raises; what was received is kept then.
        """
        git, sha256 = blob_hasher(self._size), hashlib.sha256()
        for chunk in self._received():
            git.update(chunk)
            sha256.update(chunk)
        for chunk in chunks:
            if self.received_bytes + len(chunk) > self._size:
                self._reject(f"more than the {self._size} bytes that it has")
            git.update(chunk)
            sha256.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
            self.received_bytes += len(chunk)
        if self.received_bytes != self._size or sha256.hexdigest() != self._sha256:
            wanted = f"the content {self._sha256} ({self._size} bytes)"
            self._reject(f"{self.received_bytes} bytes that are not {wanted}")
        self._file.close()  # some disks report a failed write only here (close(2))
        self._move_in(self.path, git.hexdigest())
        self.is_complete = True
        return git.hexdigest()

    def _received(self) -> Iterator[bytes]:
        self._file.seek(0)
        left = self.received_bytes
        while left and (chunk := self._file.read(min(left, READ_BYTES))):
            left -= len(chunk)
            yield chunk
        self._file.seek(self.received_bytes)
        self._file.truncate(self.received_bytes)

    def _reject(self, text: str) -> None:
        self.restart("")
        raise BadResponseError(
            text,
            id="bad_response/wrong-content",
            hint="nothing of it is used; the next run requests it again",
        )

    @property
    def can_be_continued(self) -> bool:
        """Return whether the next run can continue it."""
        return bool(self.etag) and self.received_bytes > 0 and not self.is_complete


class PartialDownloads:
    """The partial downloads of one cache."""

    def __init__(self, folder: str, now: Callable[[], float] = time.time) -> None:
        self.folder, self._now = folder, now

    @contextmanager
    def open(
        self, sha256: str, size: int, move_in: Callable[[str, str], None]
    ) -> Iterator[PartialFile]:
        """Open the partial file of this content; a new temporary one where another run has it
        locked.

        `move_in(path, blob)` puts the complete file into the cache. Raises OSError.
        """
        for private in (os.path.dirname(self.folder), self.folder):
            os.makedirs(private, mode=0o700, exist_ok=True)
        path, file = self._locked(sha256)
        lock = os.dup(file.fileno())  # locked until the complete file has its place
        partial = PartialFile(path, file, sha256, size, move_in)
        try:
            partial.resume(self._now())
            yield partial
        except OSError:
            partial.etag = ""  # our own disk failed: remove what it has of this
            raise
        finally:
            if partial.is_complete:
                Path(f"{path}.json").unlink(missing_ok=True)
            elif not partial.can_be_continued:
                _remove(path)
            with suppress(OSError):  # a complete one is closed already; nothing depends on others
                file.close()
            os.close(lock)

    def _locked(self, sha256: str) -> tuple[str, FileIO]:
        path = f"{self.folder}/{sha256}"
        while True:
            file = FileIO(path, "r+b", opener=_open_or_create)
            try:
                lock_descriptor(file.fileno())
            except BlockingIOError:
                file.close()
                path = f"{self.folder}/{TEMPORARY}{secrets.token_hex(8)}"
                continue
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # completed or removed just before it was locked

    def clear(self) -> int:
        """Remove files that no run holds and none can continue; return the bytes freed.

        Raises OSError.
        """
        freed = 0
        for path in sorted(Path(self.folder).glob("*")):
            if path.suffix == ".json":
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
                continue
            freed += remove_if_abandoned(str(path), self._may_stay)
        return freed

    def _may_stay(self, path: str) -> bool:
        found = _validator(path)
        if found is None or not _is_recent(path, self._now()):
            return False
        return _has_room(path, found.size - os.stat(path).st_size)


def create_locked(path: str) -> int:
    """Create an empty file and return its descriptor, whose lock shows that the file is in use.

    Raises OSError.
    """
    while True:
        descriptor = open_nofollow(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        lock_descriptor(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed just before it was locked


def remove_if_abandoned(path: str, may_stay: Callable[[str], bool] = lambda _: False) -> int:
    """Remove a file that its writer no longer locks; return the bytes freed. Raises OSError."""
    try:
        descriptor = open_nofollow(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        lock_descriptor(descriptor)
        if may_stay(path):
            return 0
        size = os.fstat(descriptor).st_size
        _remove(path)
        return size
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


def _open_or_create(path: str, _flags: int) -> int:
    return open_nofollow(path, os.O_RDWR | os.O_CREAT)


def _validator(path: str) -> Validator | None:
    try:
        return msgspec.json.decode(Path(f"{path}.json").read_bytes(), type=Validator)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_recent(path: str, now: float) -> bool:
    return abs(now - os.stat(path).st_mtime) <= KEPT_SECONDS


def _has_room(path: str, needed_bytes: int) -> bool:
    free = os.statvfs(os.path.dirname(path))
    has_limit = free.f_blocks > 0  # else it has none, or does not say it (FUSE)
    return not has_limit or needed_bytes + FREE_MARGIN_BYTES <= free.f_bavail * free.f_frsize


def _remove(path: str) -> None:
    for name in (path, f"{path}.json"):
        with suppress(FileNotFoundError):
            os.unlink(name)
