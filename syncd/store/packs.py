"""Many small contents in one file: where a disk is slow to make files, a first sync that made one for each spent most of its time on that.

A pack is two files that only grow: NAME.pack holds contents one after another, NAME.index a record for each (id, where, how long),
written after its content. So a reader may come at any moment, and what a killed writer had recorded is there. Nothing is synced and
nothing is believed: whoever reads proves it by its id, as everything of the cache.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator, Set
from contextlib import closing, suppress
from threading import Lock

from syncd.objects import blob_id, is_object_id

PACK_BYTES = 64 << 20  # past this the next pack is begun: one that is thinned out is copied, and not much at once
RECORD = struct.Struct(">20sQI")
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
        return self._find(blob) is not None

    def read(self, blob: str, since: float) -> bytes | None:
        """What the disk has of it, unproven; None when it is not here. A pack that nobody used since then (Unix seconds) is in use again."""
        while (record := self._find(blob)) is not None:
            try:
                return self._content(record, since)
            except FileNotFoundError:
                self.forget()  # others have removed its pack, and maybe copied what they use
            except OSError:
                self._unlearn(blob)
                break
        return None

    def drop(self, blob: str) -> None:
        """No pack has the content any more. Raises OSError when the disk keeps it from that."""
        if not is_object_id(blob):
            return
        self._unlearn(blob)
        for name in self._stems():
            try:
                self._strike_out(name, bytes.fromhex(blob))
            except FileNotFoundError:
                continue
            except OSError:  # a disk that is full may not take even this, and takes a removal
                self._remove(name)
                self.forget()

    def begin(self) -> Pack:
        """A pack of our own, to be filled and closed. Its files are made with the first content."""
        return Pack(self)

    def blobs(self) -> list[str]:
        """The id of everything that is here, in order."""
        with self._guard:
            return sorted(identity.hex() for identity in self._look())

    def evict(self, in_use: Set[str], before: float, after: float, alone: bool) -> int:
        """Packs last used before `before` (or after `after`, by a clock that was put back since) hold nothing that is not in use; the bytes freed.

        What is in use of one that has mostly become useless is copied, and only when nobody else uses the cache.
        """
        used = {bytes.fromhex(blob) for blob in in_use}
        freed = 0
        thin: list[str] = []
        for name, stems in self._stems().items():
            with suppress(FileNotFoundError):
                found = os.stat(f"{self.folder}/{name}.{stems[-1]}")  # the pack itself, where both stand
                if before <= found.st_mtime and not (alone and found.st_mtime > after):
                    continue
                live = [size for identity, _, size in self._records(name) if identity in used] if len(stems) == 2 else []
                if not live and (alone or len(stems) == 2):
                    freed += self._remove(name)
                elif alone and 2 * sum(live) < found.st_size:
                    thin.append(name)
        freed += self._copy(thin, used)
        self.forget()
        return freed

    # --- inside -------------------------------------------------------------------------------------------------------

    def _find(self, blob: str) -> Record | None:
        if not is_object_id(blob):  # of a history that the disk has damaged
            return None
        with self._guard:
            return self._look().get(bytes.fromhex(blob))

    def _unlearn(self, blob: str) -> None:
        with self._guard:
            self._look().pop(bytes.fromhex(blob), None)

    def _note(self, identity: bytes, record: Record) -> None:
        with self._guard:
            self._look()[identity] = record

    def _look(self) -> dict[bytes, Record]:
        """What is known, read from the folder where nothing is. For who holds the guard."""
        if self._known is None:
            self._known = {}
            for name in (name for name, stems in self._stems().items() if len(stems) == 2):
                with suppress(OSError):  # a pack that can't be read has nothing to give
                    self._known.update((identity, (name, offset, size)) for identity, offset, size in self._records(name))
        return self._known

    def _stems(self) -> dict[str, list[str]]:
        """Name -> which of its two files stand, "index" before "pack"."""
        stems: dict[str, list[str]] = {}
        with suppress(OSError):  # no folder, no packs
            for file in sorted(os.listdir(self.folder)):
                name, _, kind = file.partition(".")
                if kind in ("index", "pack"):
                    stems.setdefault(name, []).append(kind)
        return stems

    def _records(self, name: str) -> Iterator[tuple[bytes, int, int]]:
        with open(f"{self.folder}/{name}.index", "rb", opener=_nofollow) as file:
            body = file.read()
        whole = len(body) - len(body) % RECORD.size  # of the last one a part may be missing
        return (record for record in RECORD.iter_unpack(body[:whole]) if record[0] != DROPPED)

    def _content(self, record: Record, since: float) -> bytes:
        name, offset, size = record
        descriptor = _nofollow(f"{self.folder}/{name}.pack", os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
            if found.st_mtime < since:
                with suppress(OSError):
                    os.utime(descriptor)
            return os.pread(descriptor, min(size, PACK_BYTES), offset) if offset < found.st_size else b""
        finally:
            os.close(descriptor)

    def _strike_out(self, name: str, identity: bytes) -> None:
        """No record of the index names it: written over in place, which needs no room."""
        descriptor = _nofollow(f"{self.folder}/{name}.index", os.O_RDWR)
        try:
            body = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            for place in range(0, len(body) - RECORD.size + 1, RECORD.size):
                if body[place : place + len(identity)] == identity:
                    os.pwrite(descriptor, DROPPED, place)
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

    def _copy(self, names: list[str], used: Set[bytes]) -> int:
        """What is in use of these packs is in a new one, proven on the way, and they are gone; the bytes freed."""
        freed = 0
        with closing(self.begin()) as into:
            for name in names:
                for identity, offset, size in self._records(name):
                    if identity in used:
                        content = self._content((name, offset, size), 0.0)
                        if blob_id(content) == identity.hex():
                            into.append(identity, content)
                freed += self._remove(name)
        return freed - into.written


class Pack:
    """One writer's pack, or the next when it is full. Of one thread."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self._files: tuple[int, int] | None = None
        self._name, self._offset, self._count = "", 0, 0
        self.written = 0  # bytes, over all

    def append(self, identity: bytes, content: bytes) -> None:
        """The content is here, for every reader. Raises OSError; then it is not."""
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
                os.close(files[0])
            finally:
                os.close(files[1])

    def _make(self) -> tuple[int, int]:
        self._name, self._offset, self._count = secrets.token_hex(8), 0, 0
        for private in (os.path.dirname(self._packs.folder), self._packs.folder):  # makedirs gives its mode to the last folder alone
            os.makedirs(private, mode=0o700, exist_ok=True)
        pack = _new(f"{self._packs.folder}/{self._name}.pack")
        try:
            return pack, _new(f"{self._packs.folder}/{self._name}.index")
        except BaseException:
            os.close(pack)
            raise


def _write(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _new(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _nofollow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
