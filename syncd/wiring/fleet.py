"""The fleet of a configuration: its database, its keys and its name, as real objects.

It loads psycopg, so it is imported where a configuration has `fleet:`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path

from syncd import __version__
from syncd.clock import Clock
from syncd.config.model import Config, Fleet
from syncd.config.secrets import read_secret
from syncd.errors import ConfigError, SyncdError
from syncd.models import Job, RunReport
from syncd.redaction import Secret
from syncd.trusted_path import state_owner

try:
    from syncd.fleet.database import DatabaseLimits, FleetDatabase
except ImportError as error:
    raise ConfigError(
        "fleet: psycopg, which talks to PostgreSQL, is not installed",
        id="config/no-psycopg",
        hint="pip install 'syncd[fleet]'",
    ) from error

from syncd.fleet.grants import agents_with, labels_of
from syncd.fleet.link import Link
from syncd.fleet.migrate import login_of, version_of
from syncd.fleet.overview import FleetReading, read_fleet
from syncd.fleet.reports import Presence, save_report
from syncd.fleet.schema import VERSION
from syncd.fleet.signing import Signer, TrustedKeys, read_signer
from syncd.fleet.source import FleetSource

LOG = logging.getLogger("syncd.fleet")
CONTROLLER_CONNECTIONS = 5
LEASE_SECONDS = 15.0
PAGE_STATEMENT_SECONDS = 5.0


class FleetParts:
    """What a machine of a fleet works with. Nothing is connected before it is used.

    With `goes_on`, an agent's jobs keep their last set while the database is away.
    """

    def __init__(
        self, config: Config, environ: Mapping[str, str], clock: Clock, goes_on: bool
    ) -> None:
        self.settings = fleet_of(config)
        self._owner = state_owner(config.state)
        self._environ, self._clock, self._goes_on = environ, clock, goes_on
        self._address = self._secret("database")
        self.name = self.settings.name or socket.gethostname()
        self.use_labels(config)
        # An agent has one connection: what it reads and what it hears go over the same.
        self._link = Link(self.database(f"syncd {self.name}"), clock)
        self._page: FleetDatabase | None = None
        self._trusted = TrustedKeys(self.settings.trust)

    def use_labels(self, config: Config) -> None:
        """Ask for the labels of this configuration from now on."""
        labels = fleet_of(config).labels
        self.presence = Presence(_session(), socket.gethostname(), __version__, labels)

    @property
    def link(self) -> Link:
        """Return the agent's connection."""
        return self._link

    def _secret(self, key: str) -> Secret:
        ref = self.settings.sign if key == "sign" else self.settings.database
        if ref is None:
            raise ConfigError("fleet.sign: this machine is no controller")
        return read_secret(ref, self._environ, f"fleet.{key}", self._owner)

    def database(
        self, application: str, limits: DatabaseLimits = DatabaseLimits()
    ) -> FleetDatabase:
        """Return the database with connections of their own; the caller closes it."""
        return FleetDatabase(self._address, application, limits)

    def controller_database(self) -> FleetDatabase:
        """Return the database for a controller: a transaction that hangs ends with its lease."""
        limits = DatabaseLimits(
            CONTROLLER_CONNECTIONS,
            idle_seconds=LEASE_SECONDS,
            lock_seconds=2 * LEASE_SECONDS,
            silent_seconds=4 * LEASE_SECONDS,  # its watchdog barks later
        )
        return self.database(f"syncd {self.name}", limits)

    def read(self) -> FleetReading:
        """Return the whole fleet, as a controller may read it. Its limits in time are short."""
        if self._page is None:
            limits = DatabaseLimits(1, PAGE_STATEMENT_SECONDS, PAGE_STATEMENT_SECONDS)
            self._page = self.database(f"syncd {self.name} page", limits)
        with self._page.begin() as connection:
            return read_fleet(connection)

    def signer(self) -> Signer:
        """Return what signs revisions. Raises ConfigError for a key that can't."""
        return read_signer(self._secret("sign"))

    def source(self, job: Job) -> FleetSource:
        """Return what the fleet has published of a job."""
        return FleetSource(job, self._link, self._trusted, self._clock, self._goes_on)

    def describe(self) -> tuple[str, str, str]:
        """Return the schema of the database, the login, and the schema that this version knows."""
        with self._link.begin() as connection:
            return version_of(connection) or "", login_of(connection), VERSION

    def granted_labels(self) -> tuple[str, dict[str, str]]:
        """Return the login, and the labels that operators gave to it."""
        with self._link.begin() as connection:
            login = login_of(connection)
            return login, labels_of(connection, login)

    def jobs_without_agents(self, jobs: Mapping[str, Job]) -> list[str]:
        """Return those of the jobs that neither a grant nor labels give to an agent."""
        with self._link.begin() as connection:
            return [name for name, job in jobs.items() if not agents_with(connection, name, job)]

    def report(self, report: RunReport) -> None:
        """Report a run of an agent. No run fails for it."""
        try:
            with self._link.begin() as connection:
                sequence = self._link.resolved.get(report.job)
                save_report(connection, self.presence, report, sequence)
        except SyncdError as error:
            LOG.warning("%s: the run was not reported: %s", report.job, error.message)

    def close(self) -> None:
        """Close the connections of the agent and of the page."""
        self._link.database.close()
        if self._page is not None:
            self._page.close()


def _session() -> str:
    """Return what tells this machine from a copy of it: the boot of its kernel, and its name.

    Source: random(4): `boot_id` is made anew at each boot. Containers of one machine share it.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{boot} {socket.gethostname()}"


def fleet_of(config: Config) -> Fleet:
    """Return `fleet:` of the configuration. Raises ConfigError where it has none."""
    if config.fleet is None:
        raise ConfigError(
            f"{config.path} has no fleet:",
            id="config/no-fleet",
            hint="describe it there (docs/fleet.md), or name another configuration with -c",
        )
    return config.fleet


__all__ = ["LEASE_SECONDS", "FleetParts", "fleet_of"]
