"""The fleet for those who look: the page, its JSON and the metrics.

A thread of its own reads the database when a page asks, over one connection with short limits.
Who looks waits a second at most, so that a database that is away or slow holds up no page: there is
the last reading, and since when the database is away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from syncd.clock import Clock
from syncd.config.model import Config
from syncd.errors import SyncdError
from syncd.status.fleet import AgentStats, ControllerStats, DatabaseState, FleetLook

if TYPE_CHECKING:
    from syncd.fleet.overview import FleetReading

LOG = logging.getLogger("syncd.fleet")
FRESH_SECONDS = 2.0  # a younger reading is good enough
WAIT_SECONDS = 1.0
RETRY_SECONDS = 5.0


class FleetWatch:
    """What this process knows of its fleet. Safe to use from many threads.

    `read` returns the whole fleet, and raises SyncdError where the database is away; an agent can't
    read it and has None.
    """

    def __init__(
        self, clock: Clock, config: Callable[[], Config], read: Callable[[], FleetReading] | None
    ) -> None:
        self._clock, self._config, self._read = clock, config, read
        self._lock, self._done = threading.Lock(), threading.Event()
        self._began_at: float | None = None  # of the reading that is under way
        self._next_at = 0.0
        self._reading: FleetReading | None = None
        self._database = DatabaseState()
        self.controller: Callable[[], ControllerStats | None] = lambda: None
        self.agent: Callable[[], AgentStats | None] = lambda: None
        self.link: Callable[[], DatabaseState] = DatabaseState  # of an agent

    @property
    def has_overview(self) -> bool:
        """Return whether this machine may read the whole fleet."""
        return self._read is not None

    def look(self) -> FleetLook:
        """Return how the fleet is. Waits a second at most, and raises StoreError."""
        if self._read is not None:
            self._refresh(self._read)
        with self._lock:
            reading, database = self._reading, self._database
        return FleetLook(
            self._clock.now(),
            database if self.has_overview else self.link(),
            reading,
            self.controller(),
            self.agent(),
            pages_of(self._config()),
        )

    def _refresh(self, read: Callable[[], FleetReading]) -> None:
        """Start to read if the last reading is old, and wait for one that has just begun."""
        now = self._clock.monotonic()
        with self._lock:
            if self._began_at is None and now >= self._next_at:
                self._began_at = now
                self._done.clear()
                work = partial(self._work, read)
                threading.Thread(target=work, name="syncd-fleet-page", daemon=True).start()
            waited = None if self._began_at is None else now - self._began_at
        if waited is not None and waited < WAIT_SECONDS:
            self._done.wait(WAIT_SECONDS - waited)

    def _work(self, read: Callable[[], FleetReading]) -> None:
        reading, error = None, None
        try:
            reading = read()
        except SyncdError as failure:
            error = failure.message
        except Exception:
            LOG.exception("a bug in syncd, met by the fleet's page; please report these lines")
            error = "a bug in syncd; its log has the traceback"
        self._finish(reading, error)

    def _finish(self, reading: FleetReading | None, error: str | None) -> None:
        now, is_up = self._clock.now(), reading is not None
        with self._lock:
            self._reading = reading or self._reading
            since = self._database.since if self._database.up is is_up else now
            self._database = DatabaseState(is_up, since, error)
            wait = FRESH_SECONDS if is_up else RETRY_SECONDS
            self._next_at = self._clock.monotonic() + wait
            self._began_at = None
        self._done.set()


def pages_of(config: Config) -> dict[str, str]:
    """Return published job -> the page of its repository, where its host has pages."""
    hosts = {name: one.web_url for name, one in config.identities.items()}
    found = {name: (hosts.get(job.identity), job.repo) for name, job in config.polled_jobs.items()}
    return {name: f"{host}/{repo}" for name, (host, repo) in found.items() if host is not None}


__all__ = ["FRESH_SECONDS", "RETRY_SECONDS", "WAIT_SECONDS", "FleetWatch"]
