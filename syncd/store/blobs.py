"""The cache of contents by git blob id: large ones in files (blob_files.py), small ones in a table
(small_blobs.py).

Every content is verified on the way in and on the way out, so damage is noticed and the content is
fetched again, never used. Rollback, drift repair and the staging of a run read from it. A run holds
`shared_lock`, so that what it finds here is not evicted; only content that no run uses and nothing
refers to is evicted.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from syncd.errors import StoreError
from syncd.file_lock import acquire, release
from syncd.folder_sync import sync_folder_at
from syncd.git_objects import blob_id, is_content_of, size_of
from syncd.ports import BlobWriter
from syncd.store.blob_files import FRESH_SECONDS, STALE_SECONDS, BlobFiles
from syncd.store.bulk_writer import BulkWriter
from syncd.store.location import open_nofollow
from syncd.store.old_packs import import_packs
from syncd.store.partial_downloads import PartialDownloads, PartialFile
from syncd.store.small_blobs import SmallBlobs

NEVER = float("-inf")  # Unix seconds: earlier than any use


class BlobCache:
    """One blob cache, for many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.added = 0  # contents that this process has added since its last eviction
        self._files = BlobFiles(directory)
        self._small = SmallBlobs(self.small_file)
        self._partials = PartialDownloads(f"{directory}/partial")
        self._abandoned_removed = False
        self._users, self._guard = 0, Lock()

    # --- locking ----------------------------------------------------------------------------------

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """Keep other processes and threads from evicting anything during the block.

        Creates no state folder: where there is none, there is nothing to evict. Raises StoreError.
        """
        if not _is_directory(self.directory.parent):
            yield
            return
        with self._guard:
            if self._users == 0:
                self._repair_small_blobs()
        lock = self._acquire(shared=True, wait=True)
        self._count_users(1)
        try:
            yield
        finally:
            self._count_users(-1)
            release(lock)

    def _count_users(self, delta: int) -> None:
        with self._guard:
            self._users += delta
            if self._users == 0:
                self._small.close()

    def _repair_small_blobs(self) -> None:
        """Remove a damaged table and import pack files of an older version, if no other process
        uses the cache.
        """
        packs = self.directory / "packs"
        if not os.path.lexists(self._small.damaged_marker) and not packs.is_dir():
            return
        try:
            lock = self._acquire(shared=False, wait=False)
        except BlockingIOError:
            return
        try:
            self._small.remove_damaged()
            import_packs(packs, self)
        except OSError as error:
            raise self._files.write_error(error) from error
        finally:
            release(lock)

    def _acquire(self, shared: bool, wait: bool) -> int:
        """Lock the cache.

        Raises BlockingIOError when other processes use it and `wait` is false, StoreError.
        """
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return acquire(self._lock_file, shared=shared, wait=wait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise StoreError(
                f"the cache {self.directory} can't be locked: {error.strerror}",
                id="store/cache-lock-failed",
                hint="syncd must own its state folder and be able to write there",
            ) from error

    # --- reading ----------------------------------------------------------------------------------

    def has(self, blob: str) -> bool:
        """Return whether the content is here; it may turn out damaged."""
        return self._small.has(blob) or self._files.has(blob)

    def read_prefix(self, blob: str | None, limit: int) -> bytes | None:
        """Return at most `limit` first bytes of the content; nothing for no blob, None where it is
        not here.

        Only content that is not longer than that is verified.
        """
        if blob is None:
            return b""
        with suppress(KeyError, OSError), self.open_unverified(blob) as content:
            if size_of(content) > limit:
                return content.read(limit)
        try:
            with self.open(blob) as content:
                return content.read(limit)
        except KeyError:
            return None

    def open(self, blob: str) -> BinaryIO:
        """Open the content, verified whole. Raises KeyError; a damaged file is removed then."""
        for _ in range(2):  # content that is damaged in the table may be intact in a file
            content = self.open_unverified(blob)
            try:
                if is_content_of(content, blob):
                    content.seek(0)
                    return content
            except OSError:
                pass  # what the disk cannot return is lost
            content.close()
            if isinstance(content, BytesIO):
                self._small.discard(blob)
            else:
                self._files.remove(blob)
        raise KeyError(blob)

    def open_unverified(self, blob: str) -> BinaryIO:
        """Open the content without verifying it. Raises KeyError.

        For a caller that verifies it while reading, and discards it when it does not match.
        """
        now = time.time()
        small = self._small.read(blob, now, now - FRESH_SECONDS)
        return BytesIO(small) if small is not None else self._files.open(blob, now)

    def discard(self, blob: str) -> None:
        """Remove the content, so that it is fetched again."""
        self._files.remove(blob)
        self._small.discard(blob)

    # --- writing ----------------------------------------------------------------------------------

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """Add the content to the files, streamed; return the number of bytes.

        Raises BadResponseError for other content, StoreError, and what `chunks` raises; nothing is
        added then.
        """
        if size is None:
            content = b"".join(chunks)
            return self.add(blob, [content], len(content))
        count = self._files.add(blob, chunks, size)
        self.added += 1
        return count

    @contextmanager
    def bulk_writer(self) -> Iterator[BlobWriter]:
        """Yield a writer for one thread that adds many contents: small ones go to the table, in
        batches.

        What was added stays, also when the block fails.
        """
        writer = BulkWriter(self)
        try:
            yield writer
        except BaseException:
            with suppress(StoreError):
                writer.flush()
            raise
        writer.flush()

    def add_small(self, contents: Mapping[str, bytes]) -> None:
        """Add verified contents to the table, or to files where the table is damaged.

        Raises StoreError.
        """
        try:
            if self._small.write(contents, time.time()):
                self.added += len(contents)
                return
        except (OSError, sqlite3.Error) as error:
            raise self._files.write_error(error) from error
        for blob, content in contents.items():
            self.add(blob, [content], len(content))

    @contextmanager
    def partial_download(self, sha256: str, size: int) -> Iterator[PartialFile]:
        """Begin or continue a download of content that is known by its SHA-256. Raises
        StoreError.
        """
        try:
            with self._partials.open(sha256, size, self._move_in) as partial:
                yield partial
        except OSError as error:
            raise self._files.write_error(error) from error

    def _move_in(self, path: str, blob: str) -> None:
        self._files.move_in(path, blob)
        self.added += 1

    def sync(self, blobs: Iterable[str]) -> None:
        """Let these contents survive a power cut. Raises StoreError."""
        try:
            small = [blob for blob in dict.fromkeys(blobs) if not self._files.sync(blob)]
            if small:
                self._small.sync(small[0], time.time())  # one transaction is enough for all
            sync_folder_at(str(self.directory.parent))
        except (OSError, sqlite3.Error) as error:
            raise self._files.write_error(error) from error

    # --- eviction ---------------------------------------------------------------------------------

    def remove_abandoned_files(self) -> None:
        """Remove temporary files of processes that died, once per process. Raises StoreError."""
        if self._abandoned_removed:
            return
        self._abandoned_removed = True
        try:
            self._files.remove_abandoned()
            self._partials.clear()
        except OSError as error:
            raise self._files.write_error(error) from error

    def is_eviction_due(self, now: float | None = None, seconds: float = STALE_SECONDS) -> bool:
        """Return whether the last eviction is more than a day ago, or as many seconds.

        A cache without an eviction counts from its first use: nothing in it is older.
        """
        now = time.time() if now is None else now
        for since in (self._evicted_file, self._lock_file):
            with suppress(FileNotFoundError):
                return not 0 <= now - os.stat(since).st_mtime < seconds
        return self.directory.is_dir()

    def evict_unused(self, in_use: Callable[[], Set[str]], now: float | None = None) -> int | None:
        """Remove blobs that are not in use, and leftovers of runs that died; return the bytes
        freed.

        A blob younger than a day stays, because a run that was interrupted or failed continues with
        what it fetched. While other processes use the cache, their downloads stay too, and `in_use`
        is called first: a blob that it does not name may belong to a run that has not recorded it
        yet. Returns None, having done nothing, when other processes use the cache and a day has not
        passed. Raises OSError, StoreError.
        """
        now = time.time() if now is None else now
        try:
            lock = self._acquire(shared=False, wait=False)
        except BlockingIOError:
            return self._evict(in_use(), now, alone=False) if self.is_eviction_due(now) else None
        try:
            return self._evict(in_use(), now, alone=True)
        finally:
            release(lock)

    def _evict(self, in_use: Set[str], now: float, alone: bool) -> int:
        freed = self._partials.clear()
        freed_files, failure = self._files.evict(in_use, now, alone)
        try:
            newest = now + STALE_SECONDS if alone else float("inf")
            freed += freed_files + self._small.evict(in_use, now - STALE_SECONDS, newest)
        except sqlite3.Error as error:
            failure = failure or OSError(str(error))
        finally:
            self._note_eviction(now)
        if failure is not None:
            raise failure
        return freed

    def _note_eviction(self, now: float) -> None:
        with open(self._evicted_file, "wb", opener=open_nofollow):
            os.utime(self._evicted_file, (now, now))
        self.added = 0

    # --- verification -----------------------------------------------------------------------------

    def verify(self, discard_damaged: bool = False) -> tuple[int, list[str]]:
        """Read every blob; return how many there are, and the damaged ones.

        With `discard_damaged`, these are removed. Without it nothing is written, not even a time of
        use.
        """
        if not self.directory.is_dir() and not os.path.lexists(self.small_file):
            return 0, []
        with self.shared_lock() if discard_damaged else self._existing_lock():
            return self._verify(discard_damaged)

    @contextmanager
    def _existing_lock(self) -> Iterator[None]:
        """Hold the shared lock where its file exists and can be read: nothing is created."""
        try:
            lock = acquire(self._lock_file, shared=True, wait=True, create=False)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            release(lock)

    def _verify(self, discard_damaged: bool) -> tuple[int, list[str]]:
        count, damaged = 0, set[str]()
        for blob in self._files.ids():
            count += 1
            if not self._files.is_intact(blob):
                damaged.add(blob)
                if discard_damaged:
                    self._files.remove(blob)
        small = self._small if discard_damaged else SmallBlobs(self.small_file, read_only=True)
        for blob in small.ids():
            count += 1
            content = small.read(blob, NEVER, NEVER)
            if content is None or blob_id(content) != blob:
                damaged.add(blob)
                if discard_damaged:
                    small.discard(blob)
        small.close()
        return count, sorted(damaged)

    @property
    def small_file(self) -> Path:
        """The file of the small contents, beside the directory of the large ones."""
        return self.directory.parent / "cache.db"

    @property
    def _evicted_file(self) -> Path:
        return self.directory / "swept"

    @property
    def _lock_file(self) -> Path:
        return self.directory / "lock"


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(
            f"{path} can't be read: {error.strerror}",
            id="store/cannot-stat",
            hint="check the disk of the state folder",
        ) from error


__all__ = ["FRESH_SECONDS", "NEVER", "STALE_SECONDS", "BlobCache"]
