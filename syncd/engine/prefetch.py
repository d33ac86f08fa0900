"""What a run finds out while it waits for GitHub: its ledger, its folders, and what stands at the ledger's places.

Nothing is decided here, and the writer compares again at each rename. docs/decisions/0007-what-a-tick-costs.md has what it saves.
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
    """A context: one thread reads and looks while the block runs, and has ended when the block has."""

    def __init__(
        self, job: str, store: Store, mirror: Mirror, check: Callable[[], None] = no_limit
    ) -> None:
        self._job, self._store, self._mirror, self._check = job, store, mirror, check
        self._pool = ThreadPoolExecutor(1, "syncd-ahead")

    def __enter__(self) -> Prefetch:
        self._ledger = self._pool.submit(self._read)
        self._seen = self._pool.submit(
            lambda: self._mirror.scan(self._ledger.result()[2], self._check)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def recorded(self) -> dict[str, LedgerRow]:
        """The job's ledger. Raises what the store raised."""
        return self._ledger.result()[0]

    def folders(self) -> frozenset[str]:
        """The folders that syncd made for the job. Raises what the store raised."""
        return self._ledger.result()[1]

    def scan(self, targets: Mapping[str, Target]) -> dict[str, LocalFile | None]:
        """What stands at each of these. Raises MirrorError.

        All are looked at again where they are not exactly the ledger's places, because one place explains another: a file where a
        folder is wanted may be ours, and leave.
        """
        wait([self._seen])
        if targets != self._ledger.result()[2]:
            return self._mirror.scan(targets, self._check)
        return dict(self._seen.result())

    def _read(self) -> tuple[dict[str, LedgerRow], frozenset[str], dict[str, Target]]:
        """The ledger, the folders, and the places of both."""
        recorded, folders = self._store.load_ledger(self._job), self._store.folders(self._job)
        files = {path: Target(row.entry.root, row) for path, row in recorded.items()}
        return (
            recorded,
            folders,
            files | targets_of(wanted_directories(applied_set(recorded), folders)),
        )
