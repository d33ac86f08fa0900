"""Read the ledger and look at the disk while a run waits for GitHub.

Nothing is decided here, and the writer compares again at each rename.
docs/decisions/0007-what-a-tick-costs.md has what this saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from syncd.deadline import no_limit
from syncd.engine.directories import applied_set, wanted_directories
from syncd.engine.directories import directory_targets as targets_of
from syncd.models import LedgerRow, LocalFile
from syncd.ports import Mirror, Store, Target


class Prefetch:
    """A context manager: one thread reads and scans while the block runs, and ends with the
    block.
    """

    def __init__(
        self, job: str, store: Store, mirror: Mirror, check: Callable[[], None] = no_limit
    ) -> None:
        self._job, self._store, self._mirror, self._check = job, store, mirror, check
        self._pool = ThreadPoolExecutor(1, "syncd-prefetch")

    def __enter__(self) -> Prefetch:
        self._ledger = self._pool.submit(self._read)
        self._seen = self._pool.submit(
            lambda: self._mirror.scan(self._ledger.result()[2], self._check)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def recorded(self) -> dict[str, LedgerRow]:
        """Return the job's ledger. Raises what the store raised."""
        return self._ledger.result()[0]

    def folders(self) -> frozenset[str]:
        """Return the directories that syncd made for the job. Raises what the store raised."""
        return self._ledger.result()[1]

    def scan(self, targets: Mapping[str, Target]) -> dict[str, LocalFile | None]:
        """Return what is at each of these targets. Raises MirrorError.

        Everything is scanned again when these are not exactly the ledger's targets, because one
        target explains another: a file where a directory is wanted may be syncd's, and be removed.
        """
        wait([self._seen])
        if targets != self._ledger.result()[2]:
            return self._mirror.scan(targets, self._check)
        return dict(self._seen.result())

    def _read(self) -> tuple[dict[str, LedgerRow], frozenset[str], dict[str, Target]]:
        """Return the ledger, syncd's directories, and the targets of both."""
        recorded, folders = self._store.load_ledger(self._job), self._store.folders(self._job)
        files = {path: Target(row.entry.root, row) for path, row in recorded.items()}
        return (
            recorded,
            folders,
            files | targets_of(wanted_directories(applied_set(recorded), folders)),
        )
