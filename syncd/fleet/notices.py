"""Notices of the fleet's database: a job has a new revision.

A notice is a hint and may be lost or forged: it starts a run, and the run reads what is signed. The
connection that reads also listens, and it listens before anything is read over it, so that nothing
is missed in between.

No notice comes over a standby, which takes no LISTEN, nor through a pooler, where a LISTEN would
stay behind with a server process that other clients use.
"""

from __future__ import annotations

import logging
import secrets
import select
from collections.abc import Callable

import psycopg
from sqlalchemy import func
from sqlalchemy import select as query

from syncd.clock import Clock
from syncd.fleet.database import FleetConnection
from syncd.fleet.link import Link
from syncd.fleet.schema import CHANNEL

LOG = logging.getLogger("syncd.fleet")
PROBE_SECONDS = 10.0
STANDBY_SECONDS = 30.0  # between two looks whether a standby was promoted
MAX_WAIT_SECONDS = 5.0  # a connection that another thread made is looked at after this


class Notices:
    """The notices that an agent's connection hears. One thread waits; any thread may read.

    `on_notice` is called with the name of a job, or with None after the connection was made again:
    notices may have been missed then. It must return at once.
    """

    def __init__(self, link: Link, clock: Clock, on_notice: Callable[[str | None], None]) -> None:
        self._link, self._clock, self._on_notice = link, clock, on_notice
        self._probe = f"syncd_probe_{secrets.token_hex(8)}"
        self._probe_ends_at: float | None = None  # of a probe that is under way
        self._descriptor = -1
        self._connections = self._probed = 0
        self._standby_until: float | None = None  # the next look whether it is one still
        self.works: bool | None = None  # None: not known yet
        self.heard = 0  # notices of jobs
        link.database.listen(self._listen)

    def _listen(self, connection: FleetConnection) -> None:
        """Listen over a new connection, before anything else is done with it."""
        connection.add_notify_handler(self._heard)
        self._descriptor = connection.fileno()
        self._connections += 1
        self._standby_until = None
        if connection.is_pooled:
            self._deaf("they do not pass a pooler")
        else:
            self._listen_directly(connection)
        if self._connections > 1 or self._link.is_away:  # notices or the first runs were missed
            self._on_notice(None)

    def _listen_directly(self, connection: FleetConnection) -> None:
        try:
            connection.execute(f"LISTEN {CHANNEL}")
            connection.execute(f"LISTEN {self._probe}")
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.rollback()
            self._standby_until = self._clock.monotonic() + STANDBY_SECONDS
            self._deaf("it is a standby")

    def _deaf(self, reason: str) -> None:
        """Note that no notices come over this connection, and log it once."""
        self._probed = self._connections  # nothing to probe
        self._probe_ends_at = None
        if self.works is not False:
            LOG.warning(
                "no notices arrive from the fleet's database: %s; jobs follow their schedule alone",
                reason,
            )
        self.works = False

    def _heard(self, notice: psycopg.Notify) -> None:
        if notice.channel == self._probe:
            self.works, self._probe_ends_at = True, None
        else:
            self.heard += 1
            self._on_notice(notice.payload)

    def wait(self) -> float:
        """Wait a few seconds for notices; return the seconds until the next call.

        Raises what the database raises.
        """
        if self._connections == 0 or self._link.is_away:
            wait = self._link.wait_seconds()
            if wait > 0:
                return wait
            self._read()
        self._look_at_standby()
        self._send_probe()
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(MAX_WAIT_SECONDS * 1000):
            self._read()
        self._judge_probe()
        return 0.0

    def _look_at_standby(self) -> None:
        """Make a new connection, which listens, where a standby was promoted meanwhile."""
        if self._standby_until is None or self._clock.monotonic() < self._standby_until:
            return
        self._standby_until = self._clock.monotonic() + STANDBY_SECONDS
        with self._link.begin() as connection:
            promoted = not connection.execute(query(func.pg_is_in_recovery())).scalar_one()
        if promoted:
            self._link.database.reconnect()
            self._read()

    def _read(self) -> None:
        """Let the driver take in what has arrived: it comes with the answer to the pool's question
        whether the connection is alive.
        """
        with self._link.begin():
            pass

    def _send_probe(self) -> None:
        """Send a notice to this connection alone, once for each: a pooler may keep it back."""
        if self._probed == self._connections:
            return
        self._probed = self._connections
        self._probe_ends_at = self._clock.monotonic() + PROBE_SECONDS
        with self._link.begin() as connection:
            connection.execute(query(func.pg_notify(self._probe, "")))

    def _judge_probe(self) -> None:
        ends_at = self._probe_ends_at
        if ends_at is None or self._clock.monotonic() < ends_at:
            return
        self._deaf("a pooler may keep them back")


__all__ = ["Notices"]
