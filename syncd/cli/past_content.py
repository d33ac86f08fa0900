"""The bytes of past versions, and whether everyone may read them: what `history --diff` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from syncd.cli.trash_entries import trash_of
from syncd.config.model import Config
from syncd.diff import MAX_BYTES, readable_by_all
from syncd.mirror.trash import TrashEntry
from syncd.models import LedgerRow, WantedFile
from syncd.store.history import PastChange
from syncd.store.read_only_cache import ReadOnlyCache
from syncd.store.store import SqliteStore


class PastContent:
    """Contents by blob id, from the cache and the trash; modes by path, from ledger, kept sets and
    trash.
    """

    def __init__(self, config: Config, store: SqliteStore, jobs: Iterable[str]) -> None:
        self._blobs = ReadOnlyCache(config.state / "blobs")
        self._trash = trash_of(config)
        entries = self._trash.entries()
        self._entries: dict[str, TrashEntry] = {entry.content: entry for entry in entries}
        self._kept = {(entry.path, entry.content): entry.mode for entry in entries}
        self._ledgers: dict[str, dict[str, LedgerRow]] = {}
        self._sets: dict[str, list[dict[str, WantedFile]]] = {}
        for job in jobs:
            self._ledgers[job] = store.load_ledger(job)
            self._sets[job] = [dict(one.files) for one in store.sets(job)]

    def read(self, blob: str | None) -> bytes | None:
        """Return the first bytes of the content: none for no blob, None where it is not kept."""
        found = self._blobs.read_prefix(blob, MAX_BYTES + 1)
        entry = self._entries.get(blob or "")
        if found is not None or entry is None:
            return found
        if not self._trash.is_whole(entry.content, entry.size):
            return None
        with open(self._trash.content_of(entry), "rb") as content:
            return content.read(MAX_BYTES + 1)

    def is_public(self, job: str, change: PastChange) -> bool:
        """Return whether everyone might read both versions, as far as their modes are known.

        A path without a known mode is not public.
        """
        modes = list(self._modes(job, change))
        return bool(modes) and all(readable_by_all(mode) for mode in modes)

    def _modes(self, job: str, change: PastChange) -> Iterator[int]:
        row = self._ledgers.get(job, {}).get(change.path)
        if row is not None:
            yield row.entry.mode
        for files in self._sets.get(job, ()):
            file = files.get(change.path)
            if file is not None and file.blob in (change.before, change.after):
                yield file.mode
        for blob in (change.before, change.after):
            mode = self._kept.get((change.path, blob or ""))
            if mode is not None:
                yield mode
