"""What a run finds out while it waits for GitHub: its ledger, its folders, and what stands at the ledger's places.

Promises that nothing is decided here, and that who asks gets what asking in turn would have got: where a place has come or gone meanwhile
everything is looked at when it is asked for, because one place explains another (a file where a folder is wanted may be ours, and leave).
What was seen is older than the listing by the time that took; the writer compares again at the rename, whatever was seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from syncd.clock import no_limit
from syncd.engine.folders import set_of, wished
from syncd.engine.folders import targets as targets_of
from syncd.engine.ports import Mirror, Store, Target
from syncd.models import Local, Recorded


class Ahead:
    """A context: a thread of its own looks while the block runs, and has ended when the block has."""

    def __init__(self, job: str, store: Store, mirror: Mirror, check: Callable[[], None] = no_limit) -> None:
        self._job, self._store, self._mirror, self._check = job, store, mirror, check
        self._thread = threading.Thread(target=self._look, name="syncd-ahead")
        self._read = threading.Event()
        self._ledger: dict[str, Recorded] = {}
        self._folders: frozenset[str] = frozenset()
        self._targets: dict[str, Target] = {}
        self._seen: Mapping[str, Local | None] = {}
        self._error: BaseException | None = None
        self._trouble: BaseException | None = None

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def recorded(self) -> dict[str, Recorded]:
        """The job's ledger. Raises what the store raised."""
        self._read.wait()
        if self._error is not None:
            raise self._error
        return self._ledger

    def folders(self) -> frozenset[str]:
        """The folders that syncd made for the job. Raises what the store raised."""
        self.recorded()
        return self._folders

    def scan(self, targets: Mapping[str, Target]) -> dict[str, Local | None]:
        """What stands at each of these. Raises MirrorError."""
        self._thread.join()
        if targets != self._targets:
            return self._mirror.scan(targets, self._check)
        if self._trouble is not None:
            raise self._trouble
        return dict(self._seen)

    def _look(self) -> None:
        try:
            self._ledger, self._folders = self._store.recorded(self._job), self._store.folders(self._job)
        except BaseException as error:  # noqa: BLE001  (it is raised where the ledger is asked for)
            self._error = error
            return
        finally:
            self._read.set()
        self._targets = {path: Target(row.entry.root, row) for path, row in self._ledger.items()} | targets_of(wished(set_of(self._ledger), self._folders))
        try:
            self._seen = self._mirror.scan(self._targets, self._check)
        except BaseException as error:  # noqa: BLE001  (it is raised where the places are asked for, if they are still these)
            self._trouble = error
