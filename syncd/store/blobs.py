"""Contents by git id, in files named by it: verified on the way in and on the way out, so damage is noticed and fetched again, never used.

Rollback, drift repair and the staging of a run live on it. Nothing here is synced to disk: what a crash tears does not match its
id and is dropped when it is next asked for.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from syncd.errors import BadResponseError, StoreError
from syncd.objects import blob_hasher

CHUNK = 1 << 20
STALE_SECONDS = 3600
TEMPORARY = "tmp-"


class BlobCache:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fan_out: set[str] = set()

    def has(self, blob: str) -> bool:
        return os.path.lexists(self._file(blob))

    def open(self, blob: str) -> BinaryIO:
        """The content, verified whole before the first byte is given. Raises KeyError; a damaged file is gone then."""
        try:
            content = open(self._file(blob), "rb", opener=_nofollow)  # noqa: SIM115  (handed to the caller, verified)
        except OSError as error:
            raise KeyError(blob) from error
        try:
            hasher = blob_hasher(os.fstat(content.fileno()).st_size)
            while chunk := content.read(CHUNK):
                hasher.update(chunk)
            if hasher.hexdigest() == blob:
                content.seek(0)
                return content
        except OSError:
            pass  # a disk that can't give it back has lost it
        content.close()
        self.drop(blob)
        raise KeyError(blob)

    def drop(self, blob: str) -> None:
        with suppress(OSError):
            os.unlink(self._file(blob))

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        if size is None:
            content = b"".join(chunks)
            return self.add(blob, [content], len(content))
        with self._temporary(blob[:2]) as temporary:
            hasher = blob_hasher(size)
            count = self._write(temporary, chunks, size, hasher)
            if count != size or hasher.hexdigest() != blob:
                raise BadResponseError(f"{count} bytes that are not blob {blob} ({size} bytes)", hint="nothing of it is used; the next run asks again")
            os.rename(temporary, self._folder(blob[:2]) / blob[2:])
        return count

    def add_hashed(self, sha256: str, size: int, chunks: Iterable[bytes]) -> str:
        """As `add`, for content that is known by its sha256; its git id comes out of it."""
        with self._temporary(sha256[:2]) as temporary:
            git, other = blob_hasher(size), hashlib.sha256()
            count = self._write(temporary, chunks, size, git, other)
            if count != size or other.hexdigest() != sha256:
                raise BadResponseError(f"{count} bytes that are not the content {sha256} ({size} bytes)", hint="nothing of it is used; the next run asks again")
            blob = git.hexdigest()
            os.rename(temporary, self._folder(blob[:2]) / blob[2:])
        return blob

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        if name not in self._fan_out:
            for private in (self.directory, folder):  # makedirs gives its mode to the last folder alone
                os.makedirs(private, mode=0o700, exist_ok=True)
            self._fan_out.add(name)
        return folder

    @contextmanager
    def _temporary(self, folder: str) -> Iterator[Path]:
        """A name for content that is not proven yet; nothing stands there afterwards. Raises StoreError for what our own disk does."""
        temporary = self.directory / folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            self._folder(folder)
            yield temporary
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, _DiskError) or (isinstance(error, OSError) and error.filename is not None):
                raise StoreError(f"can't keep a download in {self.directory}: {error}", hint="free some space on the disk of the state folder; the next run goes on by itself") from error
            raise

    def _write(self, temporary: Path, chunks: Iterable[bytes], size: int, *hashers: _Hasher) -> int:
        count = 0
        with open(temporary, "xb", buffering=0, opener=_private) as file:
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    raise BadResponseError(f"more than the {size} bytes that it has", hint="nothing of it is used; the next run asks again")
                for hasher in hashers:
                    hasher.update(chunk)
                try:
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                except OSError as error:
                    raise _DiskError(error.strerror or str(error)) from error
        return count

    def sweep(self, now: float | None = None) -> int:
        """Leftovers of runs that died are gone; how many."""
        limit, gone = (now if now is not None else time.time()) - STALE_SECONDS, 0
        for left in self.directory.glob(f"??/{TEMPORARY}*"):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < limit:
                    left.unlink()
                    gone += 1
        return gone

    def evict(self, keep: set[str]) -> int:
        """Every blob but those in `keep` is gone; how many bytes that freed."""
        freed = 0
        for file in self.directory.glob("??/*"):
            if file.name.startswith(TEMPORARY) or file.parent.name + file.name in keep:
                continue
            with suppress(FileNotFoundError):
                freed += file.stat().st_size
                file.unlink()
        return freed

    def verify(self) -> tuple[int, list[str]]:
        """How many blobs there are, and those that were damaged (they are gone now)."""
        count, damaged = 0, []
        for file in sorted(self.directory.glob("??/*")):
            if file.name.startswith(TEMPORARY):
                continue
            count += 1
            try:
                self.open(file.parent.name + file.name).close()
            except KeyError:
                damaged.append(file.parent.name + file.name)
        return count, damaged

    def _file(self, blob: str) -> str:
        return f"{self.directory}/{blob[:2]}/{blob[2:]}"


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _DiskError(Exception):
    """Our own disk failed, not the download."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _nofollow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
