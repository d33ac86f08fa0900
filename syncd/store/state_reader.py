"""Reads the states of all jobs, and the number of their files, once until something is written.

The status page asks for them every few seconds, and a thousand states take most of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection

from syncd.ports import JobState
from syncd.store import job_states
from syncd.store.sqlite import pragma

T = TypeVar("T")
Moment = tuple[Connection, int]


class StateReader:
    """What all jobs of one store have. The caller must not change what it gets.

    Every method is called inside a transaction of the connection.
    """

    def __init__(self) -> None:
        self._read_at: Moment | None = None
        self._states: Mapping[str, JobState] | None = None
        self._counts: Mapping[str, int] | None = None

    def states(self, connection: Connection) -> Mapping[str, JobState]:
        """Return the state of each job."""
        self._forget_what_is_old(connection)
        self._states = self._or_read(self._states, job_states.read_states, connection)
        return self._states

    def file_counts(self, connection: Connection) -> Mapping[str, int]:
        """Return how many ledger rows each job has."""
        self._forget_what_is_old(connection)
        self._counts = self._or_read(self._counts, job_states.file_counts, connection)
        return self._counts

    def _forget_what_is_old(self, connection: Connection) -> None:
        """Forget everything if a counted write came since, also one of another process."""
        moment = (connection, int(pragma(connection, "user_version")))
        if moment != self._read_at:
            self._read_at, self._states, self._counts = moment, None, None

    @staticmethod
    def _or_read(known: T | None, read: Callable[[Connection], T], connection: Connection) -> T:
        return read(connection) if known is None else known


__all__ = ["StateReader"]
