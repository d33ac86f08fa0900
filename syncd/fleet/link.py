"""An agent's one connection to the fleet's database, which may be away for hours.

After a failure nothing is tried for a while: a random part of a time that doubles up to a minute,
so that agents that lost the database together come back one after another. A server that answers
and takes no writes is not away.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from syncd.clock import Clock
from syncd.errors import RemoteUnavailableError
from syncd.fleet.database import FleetDatabase
from syncd.fleet.database_errors import ANSWERED

LOG = logging.getLogger("syncd.fleet")
FIRST_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0


class Link:
    """The database, with pauses after failures. Safe to use from many threads."""

    def __init__(
        self, database: FleetDatabase, clock: Clock, jitter: Callable[[], float] = random.random
    ) -> None:
        self.database = database
        self._clock, self._jitter, self._lock = clock, jitter, threading.Lock()
        self._failures, self._retry_at = 0, 0.0
        self._error: RemoteUnavailableError | None = None
        self._since: datetime | None = None
        # job -> number of the revision that a run resolved last, for its report
        self.resolved: dict[str, int] = {}

    @property
    def is_away(self) -> bool:
        """Return whether the last question failed for the database's own sake."""
        return self._error is not None

    @property
    def away_because(self) -> str | None:
        """Return why the database is away; None while it answers."""
        error = self._error
        return None if error is None else error.message

    def state(self) -> tuple[bool | None, datetime | None, str | None]:
        """Return whether the database answers, since when that is so, and the last error.

        The first two are None before it was asked anything.
        """
        with self._lock:
            if self._since is None:
                return None, None, None
            error = None if self._error is None else self._error.message
            return error is None, self._since, error

    def wait_seconds(self) -> float:
        """Return how long nothing is tried from now."""
        with self._lock:
            return max(0.0, self._retry_at - self._clock.monotonic()) if self._error else 0.0

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction, as `FleetDatabase.begin` does.

        Raises RemoteUnavailableError at once within the pause after a failure.
        """
        if self._error is not None and self.wait_seconds() > 0:
            raise self._error
        try:
            with self.database.begin() as connection:
                yield connection
        except RemoteUnavailableError as error:
            if error.id not in ANSWERED:
                self._failed(error)
            raise
        self._worked()

    def pause_seconds(self, failures: int) -> float:
        """Return how long a caller waits after its failure number `failures`, from 0 on."""
        return self.wait_seconds() or self._spread_seconds(failures)

    def _spread_seconds(self, failures: int) -> float:
        """Return a random part of a time that doubles: "full jitter".

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10))
        return longest * self._jitter()

    def _failed(self, error: RemoteUnavailableError) -> None:
        with self._lock:
            if self._error is None:
                self._since = self._clock.now()
                LOG.warning("%s; the mirrors stay as they are meanwhile", error.message)
            self._error = error
            self._retry_at = self._clock.monotonic() + self._spread_seconds(self._failures)
            self._failures += 1

    def _worked(self) -> None:
        with self._lock:
            if self._since is None or self._error is not None:
                self._since = self._clock.now()
            if self._error is not None:
                LOG.info("the fleet's database answers again")
            self._failures, self._error = 0, None


__all__ = ["Link"]
