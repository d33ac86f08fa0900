"""The ledger rows of a job's destinations, whatever name they were written under, as a value.

A destination is a file on disk, not the text that names it. Its row follows the file: to another
spelling (respelling.py), to the job that lists it now, and from a job that is no longer configured
(handover.py). claims.py puts the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.models import LedgerRow


class JobLedger(Struct, frozen=True):
    """A job's ledger rows by the destinations it lists now, and what has to be recorded for that.

    `reals` has the real path of every destination that is wanted or recorded; `elsewhere` where a
    path that is only recorded leads now, if its links have changed. `superseded` are ledger rows
    (path -> job) that are in `recorded` under another path; `handed_over` are rows that another job
    gets. `folders` are the directories that syncd made for the job. `directories_acquired` are
    those of them that were recorded under another path or job until now; `directories_reassigned`
    (path -> job, or None for no job) are those that the job gives up.
    """

    recorded: Mapping[str, LedgerRow]
    reals: Mapping[str, str]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    superseded: Mapping[str, str] = field(default_factory=dict)
    handed_over: Mapping[str, str] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    directories_acquired: tuple[str, ...] = ()
    directories_reassigned: Mapping[str, str | None] = field(default_factory=dict)
    took_over_from: tuple[str, ...] = ()
    reload_pending: bool = False
    notes: tuple[str, ...] = ()
    respelled: frozenset[str] = frozenset()  # of `recorded`: rows that had another path before
    taken: frozenset[str] = frozenset()  # of `recorded`: rows that another job had before

    @property
    def own_rows(self) -> dict[str, LedgerRow]:
        """The rows that were this job's before."""
        return {path: row for path, row in self.recorded.items() if path not in self.taken}

    def rows_to_record(self, upserts: Mapping[str, LedgerRow]) -> dict[str, LedgerRow]:
        """Return the run's rows with their real paths, and every row that has a new path or job."""
        moved = {path: self.recorded[path] for path in self.respelled | self.taken}
        rows = {**moved, **upserts}
        return {path: replace(row, real=self.reals[path]) for path, row in rows.items()}
