"""Tells whether a job's ledger is still as a run has read it, so that recording the run does not
read thousands of rows again.

It is only where no row can have been written since: not by this process, and not by another one.
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


class ReadLedgers:
    """Reads the ledgers of one store.

    Every method is called inside a transaction of the connection.
    """

    def __init__(self) -> None:
        self._writes = 0

    def read(self, connection: Connection, job: str) -> dict[str, LedgerRow]:
        """The job's rows by path, without damaged ones. The caller does not change them."""
        moment = self._moment(connection)
        found = LedgerRows(ledger.of_job(connection, job))
        found.job, found.read_at = job, moment
        return found

    def note_write(self) -> None:
        """Rows of some job are changed by this transaction."""
        self._writes += 1

    def is_current(self, connection: Connection, job: str, rows: Mapping[str, LedgerRow]) -> bool:
        """Whether `read` gave these rows, and gives them again."""
        return (
            isinstance(rows, LedgerRows)
            and rows.job == job
            and rows.read_at == self._moment(connection)
        )

    def _moment(self, connection: Connection) -> Moment:
        """As long as this is the same, no row was written.

        `data_version` changes with the commits of other connections, and not with this one's.
        Source: sqlite.org/pragma.html.
        """
        return connection, int(pragma(connection, "data_version")), self._writes


def after(before: Mapping[str, LedgerRow], job: str, result: RunRecord) -> dict[str, LedgerRow]:
    """The job's rows once the result is recorded, where they are `before` until then."""
    gone = {*result.removals, *result.handed_over}
    found = {path: row for path, row in before.items() if result.superseded.get(path) != job}
    return {path: row for path, row in (found | dict(result.upserts)).items() if path not in gone}
