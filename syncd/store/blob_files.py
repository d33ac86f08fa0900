"""The content files of the blob cache: one file for each git blob id, in `STATE/blobs/ab/cdef…`.

Content is verified on its way in and stored by a rename, so that a file is there whole or not at
all. Files are not synced, but for `sync`: one that a crash truncates does not match its id, and is
removed when it is read. Locking the cache against eviction, and deciding what is in use, are left
to blobs.py.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from syncd.errors import StoreError
from syncd.file_lock import release
from syncd.folder_sync import sync_folder_at
from syncd.git_objects import blob_hasher, is_content_of
from syncd.store.bulk_writer import other_content, too_many
from syncd.store.location import open_nofollow
from syncd.store.partial_downloads import TEMPORARY, create_locked, remove_if_abandoned

STALE_SECONDS = 24 * 3600.0
FRESH_SECONDS = 3600.0


class BlobFiles:
    """The files of one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def has(self, blob: str) -> bool:
        """Return whether there is a file for the blob; it may turn out damaged."""
        return os.path.lexists(self._path(blob))

    def ids(self) -> Iterator[str]:
        """Return the id of each file, in order."""
        for file in sorted(self.directory.glob("??/*")):
            if not file.name.startswith(TEMPORARY):
                yield file.parent.name + file.name

    def open(self, blob: str, now: float) -> BinaryIO:
        """Open the file, unverified, and note that it was used `now` (Unix seconds).

        Raises KeyError.
        """
        try:
            content = os.fdopen(open_nofollow(self._path(blob), os.O_RDONLY), "rb")
        except OSError as error:
            raise KeyError(blob) from error
        with suppress(OSError):
            if now - os.fstat(content.fileno()).st_mtime > FRESH_SECONDS:
                os.utime(content.fileno())  # in use again, though nothing may record it yet
        return content

    def is_intact(self, blob: str) -> bool:
        """Return whether the file can be read and its content matches the id."""
        try:
            with os.fdopen(open_nofollow(self._path(blob), os.O_RDONLY), "rb") as content:
                return is_content_of(content, blob)
        except OSError:
            return False  # what the disk cannot return is lost

    def add(self, blob: str, chunks: Iterable[bytes], size: int) -> int:
        """Store the content of `size` bytes; return the number of bytes.

        Raises BadResponseError for other content, StoreError for our own disk, and what `chunks`
        raises.
        """
        with self._temporary(blob[:2]) as temporary:
            hasher = blob_hasher(size)
            count = _write(temporary, chunks, size, hasher)
            if count != size or hasher.hexdigest() != blob:
                raise other_content(count, f"blob {blob}", size)
            self.move_in(temporary, blob)
        return count

    def move_in(self, path: str, blob: str) -> None:
        """Give a file with verified content its place. Raises OSError."""
        os.rename(path, f"{self._make_directory(blob[:2])}/{blob[2:]}")

    def sync(self, blob: str) -> bool:
        """Sync the file and its name to disk; return whether there is one. Raises OSError."""
        try:
            descriptor = open_nofollow(self._path(blob), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for folder in (f"{self.directory}/{blob[:2]}", str(self.directory)):
            sync_folder_at(folder)
        return True

    def remove(self, blob: str) -> None:
        """Remove the file, if there is one and the disk allows it."""
        with suppress(OSError):
            os.unlink(self._path(blob))

    def remove_abandoned(self) -> None:
        """Remove temporary files of processes that died. Raises OSError."""
        for file in self.directory.glob(f"??/{TEMPORARY}*"):
            remove_if_abandoned(str(file))

    def evict(self, in_use: Set[str], now: float, alone: bool) -> tuple[int, OSError | None]:
        """Remove files older than a day that are not in use; return the bytes freed and the first
        failure.

        `alone`: no other process uses the cache. Then temporary files are removed as well, and so
        are files from the future, which were written before the clock was set back.
        """
        freed, failure = 0, None
        for file in self.directory.glob("??/*"):
            try:
                found = file.lstat()
                is_old = found.st_mtime < now - STALE_SECONDS or (
                    alone and found.st_mtime > now + STALE_SECONDS
                )
                is_temporary = alone and file.name.startswith(TEMPORARY)
                if is_temporary or (is_old and file.parent.name + file.name not in in_use):
                    file.unlink()
                    freed += found.st_size
            except FileNotFoundError:
                continue
            except OSError as error:  # the others are removed all the same
                failure = failure or error
        return freed, failure

    def write_error(self, error: Exception) -> StoreError:
        """Return the error for content that our own disk did not store."""
        return StoreError(
            f"a download can't be kept in {self.directory}: {error}",
            id="store/cache-not-written",
            hint="free some space on the disk of the state folder; the next run continues",
        )

    def _path(self, blob: str) -> str:
        return f"{self.directory}/{blob[:2]}/{blob[2:]}"

    def _make_directory(self, name: str) -> str:
        directory = f"{self.directory}/{name}"
        if not os.path.isdir(directory):  # also when it was removed while syncd was running
            # makedirs gives its mode to the last directory alone.
            for private in (self.directory, directory):
                os.makedirs(private, mode=0o700, exist_ok=True)
        return directory

    @contextmanager
    def _temporary(self, directory: str) -> Iterator[str]:
        """Yield the path of a locked temporary file, which is removed when the block fails.

        Raises StoreError for failures of our own disk, and what the block raises.
        """
        temporary = f"{self.directory}/{directory}/{TEMPORARY}{secrets.token_hex(8)}"
        try:
            self._make_directory(directory)
            with _disk_errors():
                lock = create_locked(temporary)
            try:
                yield temporary
            finally:
                release(lock)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, _DiskError):
                raise self.write_error(error) from error
            if isinstance(error, OSError) and error.filename is not None:
                raise self.write_error(error) from error
            raise


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _DiskError(Exception):
    """Our own disk failed, not the download."""


def _write(path: str, chunks: Iterable[bytes], size: int, hasher: _Hasher) -> int:
    """Write and hash the content; return the number of bytes.

    Raises BadResponseError past `size`, _DiskError.

    Some disks report only when the file is closed what became of a write (close(2)).
    """
    count = 0
    with _new_file(path) as file:
        for chunk in chunks:
            count += len(chunk)
            if count > size:
                raise too_many(size)
            hasher.update(chunk)
            with _disk_errors():
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
    return count


@contextmanager
def _new_file(path: str) -> Iterator[FileIO]:
    """Open the file for writing.

    Raises _DiskError, for a failing close only where the block succeeded.
    """
    with _disk_errors():
        file = FileIO(path, "wb", opener=open_nofollow)
    try:
        yield file
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with _disk_errors():
        file.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise each OSError of the block as a _DiskError."""
    try:
        yield
    except OSError as error:
        raise _DiskError(error.strerror or str(error)) from error


__all__ = ["FRESH_SECONDS", "STALE_SECONDS", "BlobFiles"]
