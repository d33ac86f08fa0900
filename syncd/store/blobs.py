"""Contents by git id, in files named by it or, small ones, in a table: verified on the way in and on the way out, so damage is noticed and fetched
again, never used.

Rollback, drift repair and the staging of a run live on it. What comes in is not synced to disk: what a crash tears does not match its
id and is dropped when it is next asked for. Whoever needs what he found here to stay says so with `shared_lock`; only what nobody uses and
nothing remembers is evicted.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol

from syncd.errors import StoreError
from syncd.git_objects import blob_hasher, blob_id, is_content_of, size_of
from syncd.ports import BlobWriter
from syncd.store.bulk_writer import BulkWriter, other_content, too_many
from syncd.store.location import open_nofollow
from syncd.store.old_packs import import_packs
from syncd.store.partial_downloads import (
    TEMPORARY,
    PartialDownloads,
    PartialFile,
    create_locked,
    remove_if_abandoned,
)
from syncd.store.small_blobs import SmallBlobs

STALE_SECONDS = 24 * 3600.0
FRESH_SECONDS = 3600.0
NEVER = float("-inf")  # Unix seconds before which nothing was used


class BlobCache:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.added = 0  # how many came in since the last sweep of ours
        self._small = SmallBlobs(self.small_file)
        self._partials = PartialDownloads(f"{directory}/partial")
        self._is_cleared = False
        self._users, self._guard = 0, Lock()

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """Nothing that is here while the block runs is evicted by another process or thread. The kernel lets go when the process dies.

        Makes no state folder: where there is none, there is nothing to evict.
        """
        if not _stands(self.directory.parent):
            yield
            return
        with self._guard:
            if self._users == 0:
                self._mend_small_blobs()
        descriptor = self._lock(fcntl.LOCK_SH)
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)
            _let_go(descriptor)

    def _count(self, more: int) -> None:
        with self._guard:
            self._users += more
            if self._users == 0:
                self._small.close()

    def _mend_small_blobs(self) -> None:
        """Remove a damaged table, and take in the pack files of an older version, where no other process uses the cache."""
        packs = self.directory / "packs"
        if not os.path.lexists(self._small.damaged_marker) and not packs.is_dir():
            return
        try:
            descriptor = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            self._small.remove_damaged()
            import_packs(packs, self)
        except OSError as error:
            raise self.write_error(error) from error
        finally:
            _let_go(descriptor)

    def has(self, blob: str) -> bool:
        return self._small.has(blob) or os.path.lexists(self._file(blob))

    def read_prefix(self, blob: str | None, at_most: int) -> bytes | None:
        """The content's first bytes, verified only where that is all of it: none where there was no blob, None where it is not here."""
        if blob is None:
            return b""
        with suppress(KeyError, OSError), self.open_unverified(blob) as content:
            if size_of(content) > at_most:
                return content.read(at_most)
        try:
            with self.open(blob) as content:
                return content.read(at_most)
        except KeyError:
            return None

    def open(self, blob: str) -> BinaryIO:
        """The content, verified whole before the first byte is given. Raises KeyError; a damaged file is gone then."""
        for _ in range(2):  # one that is damaged in the table may be whole in a file of its own
            content = self.open_unverified(blob)
            try:
                if is_content_of(content, blob):
                    content.seek(0)
                    return content
            except OSError:
                pass  # a disk that can't give it back has lost it
            content.close()
            if isinstance(content, BytesIO):
                self._small.discard(blob)
            else:
                self._unlink(blob)
        raise KeyError(blob)

    def open_unverified(self, blob: str) -> BinaryIO:
        """The content as the disk has it, for who proves it while reading, and drops it where it is another. Raises KeyError."""
        now = time.time()
        small = self._small.read(blob, now, now - FRESH_SECONDS)
        if small is not None:
            return BytesIO(small)
        try:
            content = os.fdopen(open_nofollow(self._file(blob), os.O_RDONLY), "rb")
        except OSError as error:
            raise KeyError(blob) from error
        with suppress(OSError):
            if time.time() - os.fstat(content.fileno()).st_mtime > FRESH_SECONDS:
                os.utime(content.fileno())  # in use again, though nothing may remember it yet
        return content

    def discard(self, blob: str) -> None:
        """It is fetched anew by whoever wants it next."""
        self._unlink(blob)
        self._small.discard(blob)

    def _unlink(self, blob: str) -> None:
        with suppress(OSError):
            os.unlink(self._file(blob))

    @contextmanager
    def bulk_writer(self) -> Iterator[BlobWriter]:
        """For one thread that adds many contents: small ones go to the table, in batches. What was whole stays, whatever ends the block."""
        writer = BulkWriter(self)
        try:
            yield writer
        except BaseException:
            with suppress(StoreError):
                writer.flush()
            raise
        writer.flush()

    def add_small(self, contents: Mapping[str, bytes]) -> None:
        """Keep these verified contents in the table, or in files where the table is damaged. Raises StoreError."""
        try:
            if self._small.write(contents, time.time()):
                self.added += len(contents)
                return
        except (OSError, sqlite3.Error) as error:
            raise self.write_error(error) from error
        for blob, content in contents.items():
            self.add(blob, [content], len(content))

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        if size is None:
            content = b"".join(chunks)
            return self.add(blob, [content], len(content))
        with self._temporary(blob[:2]) as temporary:
            hasher = blob_hasher(size)
            count = self._write(temporary, chunks, size, hasher)
            if count != size or hasher.hexdigest() != blob:
                raise other_content(count, f"blob {blob}", size)
            os.rename(temporary, f"{self._folder(blob[:2])}/{blob[2:]}")
        return count

    @contextmanager
    def partial_download(self, sha256: str, size: int) -> Iterator[PartialFile]:
        """A download of content that is known by its sha256, which may have begun in an earlier run."""
        try:
            with self._partials.one(sha256, size, self._keep) as partial:
                yield partial
        except OSError as error:
            raise self.write_error(error) from error

    def _keep(self, path: str, blob: str) -> None:
        os.rename(path, f"{self._folder(blob[:2])}/{blob[2:]}")
        self.added += 1

    def remove_abandoned_files(self) -> None:
        """Once in a process: temporary files of runs that died are gone, whoever uses the cache now."""
        if self._is_cleared:
            return
        self._is_cleared = True
        try:
            for file in self.directory.glob(f"??/{TEMPORARY}*"):
                remove_if_abandoned(str(file))
            self._partials.clear()
        except OSError as error:
            raise self.write_error(error) from error

    def _folder(self, name: str) -> str:
        folder = f"{self.directory}/{name}"
        if not os.path.isdir(folder):  # also when it was removed under us
            for private in (
                self.directory,
                folder,
            ):  # makedirs gives its mode to the last folder alone
                os.makedirs(private, mode=0o700, exist_ok=True)
        return folder

    @contextmanager
    def _temporary(self, folder: str) -> Iterator[str]:
        """A name for content that is not proven yet; nothing stands there afterwards. Raises StoreError for what our own disk does."""
        temporary = f"{self.directory}/{folder}/{TEMPORARY}{secrets.token_hex(8)}"
        try:
            self._folder(folder)
            holder = _create_locked(temporary)
            try:
                yield temporary
            finally:
                _let_go(holder)
            self.added += 1
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, _DiskError) or (
                isinstance(error, OSError) and error.filename is not None
            ):
                raise self.write_error(error) from error
            raise

    def write_error(self, error: Exception) -> StoreError:
        return StoreError(
            f"can't keep a download in {self.directory}: {error}",
            hint="free some space on the disk of the state folder; the next run goes on by itself",
        )

    def _write(self, temporary: str, chunks: Iterable[bytes], size: int, *hashers: _Hasher) -> int:
        """How many bytes came. Raises _DiskError for our own disk, at the closing of the file too: some report only there what a write came to (close(2))."""
        count = 0
        with _new_file(temporary) as file:
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    raise too_many(size)
                for hasher in hashers:
                    hasher.update(chunk)
                try:
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                except OSError as error:
                    raise _DiskError(error.strerror or str(error)) from error
        return count

    def evict_unused(self, in_use: Callable[[], Set[str]], now: float | None = None) -> int | None:
        """Blobs that are not in use and leftovers of runs that died are gone; how many bytes that freed.

        A blob younger than a day stays: a run that was interrupted or failed goes on with what it had fetched. While others use the cache
        that goes for their downloads too, and `in_use` is asked before: what it does not name may be a run's that has not recorded it
        yet. None, and nothing was looked at, when others use it and a day has not passed.
        """
        now = time.time() if now is None else now
        try:
            descriptor = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._evict(in_use(), now, alone=False) if self.is_eviction_due(now) else None
        try:
            return self._evict(in_use(), now, alone=True)
        finally:
            _let_go(descriptor)

    def is_eviction_due(self, now: float | None = None, seconds: float = STALE_SECONDS) -> bool:
        """Has nobody swept for a day, or for as many seconds? What was never swept counts from its first use: nothing in it is older."""
        now = time.time() if now is None else now
        for since in (self._mark, self._lock_file):
            with suppress(FileNotFoundError):
                return not 0 <= now - os.stat(since).st_mtime < seconds
        return self.directory.is_dir()

    def _evict(self, in_use: Set[str], now: float, alone: bool) -> int:
        """Everything that is not in use and older than a day is gone, and downloads that nobody will finish; how many bytes that freed."""
        freed = self._partials.clear()
        failure: OSError | None = None
        for file in self.directory.glob("??/*"):
            try:
                found = file.lstat()
                old = found.st_mtime < now - STALE_SECONDS or (
                    alone and found.st_mtime > now + STALE_SECONDS
                )  # of before the clock was put back
                if (alone and file.name.startswith(TEMPORARY)) or (
                    old and file.parent.name + file.name not in in_use
                ):
                    file.unlink()
                    freed += found.st_size
            except FileNotFoundError:
                continue
            except OSError as error:  # what can't go keeps no other from going
                failure = failure or error
        try:
            after = now + STALE_SECONDS if alone else float("inf")
            freed += self._small.evict(in_use, now - STALE_SECONDS, after)
        except sqlite3.Error as error:
            failure = failure or OSError(str(error))
        finally:
            self._swept(now)
        if failure is not None:
            raise failure
        return freed

    def _swept(self, now: float) -> None:
        with open(self._mark, "wb", opener=open_nofollow):
            os.utime(self._mark, (now, now))
        self.added = 0

    @property
    def _mark(self) -> Path:
        return self.directory / "swept"

    @property
    def small_file(self) -> Path:
        """Where small contents are: beside the folder of the large ones."""
        return self.directory.parent / "cache.db"

    @property
    def _lock_file(self) -> Path:
        return self.directory / "lock"

    def _lock(self, how: int) -> int:
        """Raises BlockingIOError when others use it and `how` does not wait, StoreError when our disk refuses."""
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            descriptor = os.open(
                self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise StoreError(
                f"can't use the cache {self.directory}: {error.strerror}",
                hint="syncd must own its state folder and be able to write there",
            ) from error
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            _let_go(descriptor)
            raise
        except OSError as error:
            _let_go(descriptor)
            raise StoreError(
                f"can't lock the cache {self.directory}: {error.strerror}",
                hint="check the disk of the state folder",
            ) from error
        return descriptor

    def verify(self, drop: bool = False) -> tuple[int, list[str]]:
        """How many blobs there are, and those that are damaged; with `drop`, these are gone then.

        Without `drop` nothing is written, no time of use either.
        """
        if not self.directory.is_dir() and not os.path.lexists(self.small_file):
            return 0, []
        with self.shared_lock() if drop else self._looked_at():
            return self._verify(drop)

    @contextmanager
    def _looked_at(self) -> Iterator[None]:
        """As `shared_lock`, where nothing may be written: a lock that was never made is not needed."""
        try:
            descriptor = open_nofollow(str(self._lock_file), os.O_RDONLY)
        except OSError:
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            _let_go(descriptor)

    def _verify(self, drop: bool) -> tuple[int, list[str]]:
        count, damaged = 0, set[str]()
        for file in sorted(self.directory.glob("??/*")):
            blob = file.parent.name + file.name
            if file.name.startswith(TEMPORARY):
                continue
            count += 1
            if not self._file_is_whole(blob):
                damaged.add(blob)
                if drop:
                    self._unlink(blob)
        small = self._small if drop else SmallBlobs(self.small_file, read_only=True)
        for blob in small.ids():
            count += 1
            content = small.read(blob, NEVER, NEVER)
            if content is None or blob_id(content) != blob:
                damaged.add(blob)
                if drop:
                    small.discard(blob)
        small.close()
        return count, sorted(damaged)

    def _file_is_whole(self, blob: str) -> bool:
        try:
            with os.fdopen(open_nofollow(self._file(blob), os.O_RDONLY), "rb") as content:
                return is_content_of(content, blob)
        except OSError:
            return False  # a disk that can't give it back has lost it

    def _file(self, blob: str) -> str:
        return f"{self.directory}/{blob[:2]}/{blob[2:]}"


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _DiskError(Exception):
    """Our own disk failed, not the download."""


def _create_locked(path: str) -> int:
    try:
        return create_locked(path)
    except OSError as error:
        raise _DiskError(error.strerror or str(error)) from error


def _let_go(descriptor: int) -> None:
    with suppress(OSError):  # the lock is let go whatever close(2) says of the file
        os.close(descriptor)


@contextmanager
def _new_file(path: str) -> Iterator[FileIO]:
    """A file of our own, closed afterwards. Raises _DiskError when it can't be made, or when closing it fails and nothing else went wrong before."""
    try:
        file = FileIO(path, "wb", opener=open_nofollow)
    except OSError as error:
        raise _DiskError(error.strerror or str(error)) from error
    with _closed(file):
        yield file


@contextmanager
def _closed(opened: FileIO) -> Iterator[None]:
    """It is closed afterwards. Raises _DiskError for what only closing tells (close(2)), unless something went wrong before."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            opened.close()
        raise
    try:
        opened.close()
    except OSError as error:
        raise _DiskError(error.strerror or str(error)) from error


def _stands(folder: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(
            f"can't look at {folder}: {error.strerror}", hint="check the disk of the state folder"
        ) from error
