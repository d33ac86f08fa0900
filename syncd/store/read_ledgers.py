"""Detects whether a job's ledger is still as a run has read it, so that recording the run need not
read thousands of rows again.

It is only where no process can have written a row since.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from syncd.models import LedgerRow
from syncd.ports import RunRecord
from syncd.store import ledger
from syncd.store.sqlite import pragma

Moment = tuple[Connection, int, int]


class LedgerRows(dict[str, LedgerRow]):
    """The job's rows by path, and the moment at which they were read."""

    job: str
    read_at: Moment


class LedgerReader:
    """Reads the ledgers of one store.

    Every method is called inside a transaction of the connection.
    """

    def __init__(self) -> None:
        self._writes = 0

    def read(self, connection: Connection, job: str) -> dict[str, LedgerRow]:
        """Return the job's rows by path, without damaged ones. The caller must not change them."""
        moment = self._moment(connection)
        found = LedgerRows(ledger.of_job(connection, job))
        found.job, found.read_at = job, moment
        return found

    def note_write(self) -> None:
        """Note that this transaction changes rows of some job."""
        self._writes += 1

    def is_current(self, connection: Connection, job: str, rows: Mapping[str, LedgerRow]) -> bool:
        """Return whether `read` returned these rows and would return them again."""
        return (
            isinstance(rows, LedgerRows)
            and rows.job == job
            and rows.read_at == self._moment(connection)
        )

    def _moment(self, connection: Connection) -> Moment:
        """Return a value that stays the same as long as no row is written.

        `data_version` changes with the commits of other connections, and not with those of this
        one. Source: sqlite.org/pragma.html.
        """
        return connection, int(pragma(connection, "data_version")), self._writes


def rows_after(
    before: Mapping[str, LedgerRow], job: str, record: RunRecord
) -> dict[str, LedgerRow]:
    """Return the job's rows once the record is stored, where they are `before` until then."""
    removed = {*record.removals, *record.handed_over}
    found = {path: row for path, row in before.items() if record.superseded.get(path) != job}
    return {
        path: row for path, row in (found | dict(record.upserts)).items() if path not in removed
    }
