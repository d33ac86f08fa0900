"""Remembers a job's ledger as a run has read it, so that recording the run does not read thousands of rows again.

What is remembered is used only where no row can have been written since: not by this process, and not by another one. The
rows are referred to weakly: they are freed with the run that read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from syncd.engine.ports import Result
from syncd.models import Recorded
from syncd.store import ledger
from syncd.store.sqlite import pragma

Moment = tuple[Connection, int, int]


class LedgerRows(dict[str, Recorded]):
    """A job's rows by path, and the moment at which they were read."""

    read_at: Moment


class ReadLedgers:
    """The ledgers that runs of this process hold. Every method is called inside a transaction of the connection."""

    def __init__(self) -> None:
        self._rows: WeakValueDictionary[str, LedgerRows] = WeakValueDictionary()
        self._writes = 0

    def read(self, connection: Connection, job: str) -> dict[str, Recorded]:
        """The job's rows by path, without damaged ones. The caller does not change them."""
        moment = self._moment(connection)
        found = LedgerRows(ledger.of_job(connection, job))
        found.read_at = moment
        self._rows[job] = found
        return found

    def about_to_write(self) -> None:
        """Rows of some job are changed by this transaction."""
        self._writes += 1

    def known(self, connection: Connection, job: str) -> Mapping[str, Recorded] | None:
        """What `read` would return; None where it is not remembered, or a row may have been written since."""
        found = self._rows.get(job)
        return found if found is not None and found.read_at == self._moment(connection) else None

    def _moment(self, connection: Connection) -> Moment:
        """As long as this is the same, no row was written.

        `data_version` changes with the commits of other connections, and not with this one's. Source: sqlite.org/pragma.html.
        """
        return connection, int(pragma(connection, "data_version")), self._writes


def after(before: Mapping[str, Recorded] | None, connection: Connection, job: str, result: Result) -> dict[str, Recorded]:
    """The job's rows once the result is recorded, which `before` were its rows; None: they are read."""
    if before is None:
        return ledger.of_job(connection, job)
    gone = {*result.removals, *result.handed_over}
    found = {path: row for path, row in before.items() if result.superseded.get(path) != job}
    return {path: row for path, row in (found | dict(result.upserts)).items() if path not in gone}
