"""Many small contents in one file: where a disk is slow to make files, a first sync that made one for each spent most of its time on that.

A pack is two files that only grow: NAME.pack holds contents one after another, NAME.index a record for each (id, where, how long),
written after its content. So a reader may come at any moment, and what a killed writer had recorded is there. What comes in is not synced,
and nothing is believed: whoever reads proves it by its id, as everything of the cache.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, suppress
from threading import Lock

from syncd.objects import blob_id, is_object_id
from syncd.store.place import nofollow, sync_folder

PACK_BYTES = 16 << 20  # past this the next pack is begun: what is in use of one keeps the rest of it, and is copied at once
RECORD = struct.Struct(">20sQI")
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
DROPPED = bytes(20)  # in the place of an id: the content is not here any more
Record = tuple[str, int, int]  # name of the pack, offset and size in bytes


class Packs:
    """The packs of one folder. Safe to use from many threads and processes; who sweeps must be alone where it says so."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._guard = Lock()
        self._known: dict[bytes, Record] | None = None  # what the folder held when it was read, and what came in through us since

    def forget(self) -> None:
        """Nothing of the folder is remembered: the next question reads it again, with what others have done meanwhile."""
        with self._guard:
            self._known = None

    def has(self, blob: str) -> bool:
        record = self._find(blob)
        if record is not None and not os.path.lexists(self._pack(record)):
            self.forget()  # others have removed its pack, and maybe copied what they use
            record = self._find(blob)
        return record is not None

    def read(self, blob: str, since: float) -> bytes | None:
        """What the disk has of it, unproven; None when it is not here. A pack that nobody used since then (Unix seconds) is in use again."""
        for _ in range(2):
            record = self._find(blob)
            if record is None:
                return None
            try:
                return self._content(record, since)
            except FileNotFoundError:
                self.forget()
            except OSError:
                self._unlearn(blob, record)
        return None

    def drop(self, blob: str) -> None:
        """No pack has the content any more. Where the disk does not take that, it is found again later, proven again, and passed over."""
        if not is_object_id(blob):
            return
        with self._guard:
            self._look().pop(bytes.fromhex(blob), None)
        for name in self._files():
            with suppress(OSError):
                self._strike_out(name, bytes.fromhex(blob))

    def begin(self) -> Pack:
        """A pack of our own, to be filled and closed. Its files are made with the first content."""
        return Pack(self)

    def blobs(self) -> list[str]:
        """The id of everything that is here, in order."""
        with self._guard:
            return sorted(identity.hex() for identity in self._look())

    def evict(self, in_use: Set[str], before: float, after: float, alone: bool) -> int:
        """Packs last used before `before` (or after `after`, by a clock that was put back since) hold nothing that is not in use; the bytes freed.

        What is in use of one that has mostly become useless is copied, and only when nobody else uses the cache. Raises OSError for the first
        that the disk did not give or take, when all others are done: that one stays as it is.
        """
        left = {bytes.fromhex(blob) for blob in in_use}
        freed = 0
        thin: dict[str, set[bytes]] = {}
        standing: list[tuple[float, int, str, bool]] = []
        failure: OSError | None = None
        for name, kinds in self._files().items():
            try:
                found = os.stat(f"{self.folder}/{name}.{kinds[-1]}")  # the pack itself, where both stand
                standing.append((found.st_mtime, found.st_size, name, len(kinds) == 2))
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = failure or error
        for used_at, size, name, whole in sorted(standing, reverse=True):  # the newest first, so that what was brought anew counts, and not what is damaged
            if before <= used_at and not (alone and used_at > after):
                continue
            try:
                live = {identity: length for identity, _, length in self._records(name) if identity in left} if whole else {}
                if not live and (alone or whole):
                    freed += self._remove(name)
                elif alone and 2 * sum(live.values()) < size:
                    thin[name] = set(live)
                left -= live.keys()  # what others brought at the same time is in more than one, and one is enough
            except OSError as error:
                failure = failure or error
        try:
            freed += self._copy(thin)
        except OSError as error:
            failure = failure or error
        self.forget()
        if failure is not None:
            raise failure
        return freed

    # --- inside -------------------------------------------------------------------------------------------------------

    def _find(self, blob: str) -> Record | None:
        if not is_object_id(blob):  # of a history that the disk has damaged
            return None
        with self._guard:
            return self._look().get(bytes.fromhex(blob))

    def _unlearn(self, blob: str, record: Record) -> None:
        with self._guard:
            known = self._look()
            if known.get(bytes.fromhex(blob)) == record:  # and not what another thread has brought since
                del known[bytes.fromhex(blob)]

    def _note(self, identity: bytes, record: Record) -> None:
        with self._guard:
            self._look()[identity] = record

    def _look(self) -> dict[bytes, Record]:
        """What is known, read from the folder where nothing is. For who holds the guard."""
        if self._known is None:
            self._known = {}
            for name in (name for name, kinds in self._files().items() if len(kinds) == 2):
                with suppress(OSError):  # a pack that can't be read has nothing to give
                    self._known.update((identity, (name, offset, size)) for identity, offset, size in self._records(name))
        return self._known

    def _files(self) -> dict[str, list[str]]:
        """Name -> which of its two files stand, "index" before "pack"."""
        found: dict[str, list[str]] = {}
        with suppress(OSError):  # no folder, no packs
            for file in sorted(os.listdir(self.folder)):
                name, _, kind = file.partition(".")
                if kind in ("index", "pack"):
                    found.setdefault(name, []).append(kind)
        return found

    def _pack(self, record: Record) -> str:
        return f"{self.folder}/{record[0]}.pack"

    def _records(self, name: str) -> Iterator[tuple[bytes, int, int]]:
        with open(f"{self.folder}/{name}.index", "rb", opener=nofollow) as file:
            body = file.read()
        whole = len(body) - len(body) % RECORD.size  # of the last one a part may be missing
        return (record for record in RECORD.iter_unpack(body[:whole]) if record[0] != DROPPED)

    def _content(self, record: Record, since: float) -> bytes:
        """What the disk has there; nothing where it can't give it back: that is no content's, and is struck out. Raises OSError where it can't be opened."""
        _, offset, size = record
        descriptor = nofollow(self._pack(record), os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
            if found.st_mtime < since:
                with suppress(OSError):
                    os.utime(descriptor)
            return os.pread(descriptor, min(size, PACK_BYTES), offset) if offset < found.st_size else b""
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def _strike_out(self, name: str, identity: bytes) -> None:
        """No record of the index names it: written over in place, which needs no room. Raises OSError."""
        descriptor = nofollow(f"{self.folder}/{name}.index", os.O_RDWR)
        try:
            body = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            place = body.find(identity)
            while place >= 0:
                if place % RECORD.size == 0:
                    os.pwrite(descriptor, DROPPED, place)
                place = body.find(identity, place + 1)
        finally:
            os.close(descriptor)

    def _remove(self, name: str) -> int:
        """The pack is gone, its index first; how many bytes that freed."""
        freed = 0
        for kind in ("index", "pack"):
            path = f"{self.folder}/{name}.{kind}"
            with suppress(FileNotFoundError):
                freed += os.lstat(path).st_size
                os.unlink(path)
        return freed

    def _copy(self, thin: Mapping[str, set[bytes]]) -> int:
        """These contents of these packs are in a new one, proven on the way and on disk, and the packs are gone; the bytes freed.

        On disk, as nothing else of the cache: a power cut may take what just came, but not, with the removal alone, what had long been there.
        """
        into = Pack(self, durable=True)
        try:
            with closing(into):
                for name, wanted in thin.items():
                    for identity, offset, size in self._records(name):
                        if identity in wanted:
                            content = self._content((name, offset, size), 0.0)
                            if blob_id(content) == identity.hex():
                                into.append(identity, content)
                                wanted.discard(identity)
            if into.names:
                sync_folder(self.folder)
        except OSError:
            for name in into.names:
                self._remove(name)
            raise
        return sum(self._remove(name) for name in thin) - into.written


class Pack:
    """One writer's pack, or the next when it is full. Of one thread."""

    def __init__(self, packs: Packs, durable: bool = False) -> None:
        self._packs, self._durable = packs, durable
        self._files: tuple[int, int] | None = None
        self._name, self._offset, self._count = "", 0, 0
        self.written = 0  # bytes, over all
        self.names: list[str] = []

    def append(self, identity: bytes, content: bytes) -> None:
        """The content is here, for every reader. Raises OSError; then it is not."""
        if self._files is not None and not os.fstat(self._files[0]).st_nlink:  # removed under us, and what we had put there with it
            self._packs.forget()
            self.close()
        if self._files is None or self._offset + len(content) > PACK_BYTES:
            self.close()
            self._files = self._make()
        pack, index = self._files
        _write(pack, content, self._offset)
        record = (self._name, self._offset, len(content))
        _write(index, RECORD.pack(identity, *record[1:]), self._count * RECORD.size)
        self._offset += len(content)
        self._count += 1
        self.written += len(content) + RECORD.size
        self._packs._note(identity, record)

    def close(self) -> None:
        """Raises OSError when the disk says only now what a write came to; the contents are proven again before they are used."""
        files, self._files = self._files, None
        if files is not None:
            try:
                for descriptor in files if self._durable else ():
                    os.fsync(descriptor)
            finally:
                try:
                    os.close(files[0])
                finally:
                    os.close(files[1])

    def _make(self) -> tuple[int, int]:
        self._name, self._offset, self._count = secrets.token_hex(8), 0, 0
        for private in (os.path.dirname(self._packs.folder), self._packs.folder):  # makedirs gives its mode to the last folder alone
            os.makedirs(private, mode=0o700, exist_ok=True)
        self.names.append(self._name)
        path = f"{self._packs.folder}/{self._name}"
        pack = nofollow(f"{path}.pack", NEW)
        try:
            return pack, nofollow(f"{path}.index", NEW)
        except BaseException:
            os.close(pack)
            with suppress(OSError):  # what went wrong first counts
                os.unlink(f"{path}.pack")
            raise


def _write(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
