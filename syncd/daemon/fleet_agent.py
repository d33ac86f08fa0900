"""The agent of a fleet: notices start runs beside the schedule, and every run is reported.

The schedule of a job is its poll: a notice that is lost costs no more than that time.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from syncd.config.model import Config
from syncd.daemon.daemon import Daemon
from syncd.daemon.fleet_reports import reporter_of
from syncd.errors import StoreError, SyncdError
from syncd.fleet.notices import Notices
from syncd.fleet.reports import AgentReport, save_unlisted
from syncd.fleet.source import sequence_of
from syncd.identities import FLEET
from syncd.models import RunReport, Trigger
from syncd.status.fleet import AgentStats, DatabaseState
from syncd.store.facts import FLEET_AWAY, Staleness

LOG = logging.getLogger("syncd.fleet")
NOTICE_INTERVAL_SECONDS = 2.0  # between two runs of a job that notices start: they may be forged
RETRY_SECONDS = 5.0  # after a bug of ours
STOP_SECONDS = 2.0
TELL_INTERVAL_SECONDS = 30.0


class FleetAgent:
    """A service of the daemon: listens to the fleet's database, and reports to it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started_at: dict[str, float] = {}
        self._noted: str | None = ""  # what the store has of the database; empty: not known
        self._may_be_unlisted, self._tell_at = True, 0.0

    def start(self, daemon: Daemon) -> None:
        """Start listening, and report every run from now on."""
        self._daemon, self._fleet = daemon, daemon.app.fleet
        self._notices = Notices(self._fleet.link, daemon.clock, self._on_notice)
        self._reporter = reporter_of(self._fleet.link, lambda: self._fleet.presence)
        daemon.job_status.subscribe(lambda report, _before: self._add(report))
        if daemon.fleet_watch is not None:
            daemon.fleet_watch.agent = self.stats
            daemon.fleet_watch.link = lambda: DatabaseState(*self._fleet.link.state())
        for name, work in (("notices", self._listen_loop), ("reports", self._reporter.run)):
            thread = threading.Thread(target=work, name=f"syncd-fleet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _add(self, report: RunReport) -> None:
        """Let a report be written, with the number of the revision that its run resolved."""
        sequence = self._fleet.link.resolved.get(report.job)
        self._reporter.add(AgentReport(report, sequence))

    def reload(self, config: Config) -> None:
        """Say from now on what this configuration has. Jobs are looked up when a notice comes."""
        self._fleet.use_labels(config)
        self._may_be_unlisted, self._tell_at = True, 0.0

    def stop(self) -> None:
        """Send the reports that wait, for a moment, and stop listening."""
        self._stop.set()
        self._reporter.stop()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def stall_reason(self) -> str | None:
        """Return None: without notices the jobs follow their schedule."""
        return None

    def stats(self) -> AgentStats:
        """Return how many notices came, and which jobs lack a published commit since when.

        Raises StoreError.
        """
        app = self._daemon.app
        states = app.store.states(list(app.config.jobs))
        behind: dict[str, datetime | None] = {}
        for name, job in app.config.jobs.items():
            head = app.stored_head(job)
            sequence = sequence_of(head)
            if head is None or sequence is None:
                continue
            published_at = datetime.fromtimestamp(sequence / 1000, UTC)
            state = states.get(name)
            applied = None if state is None else state.applied_commit
            behind[name] = None if applied == head.commit else published_at
        return AgentStats(self._notices.heard, behind)

    # --- notices ----------------------------------------------------------------------------------

    def _listen_loop(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                wait = self._notices.wait()
                self._tell_unlisted()
                failures = 0
            except SyncdError as error:
                LOG.debug("notices: %s", error.message)
                wait = self._fleet.link.pause_seconds(failures)
                failures += 1
            except Exception:
                LOG.exception("a bug in syncd, met while listening; please report these lines")
                wait = RETRY_SECONDS
            self._note_database(self._fleet.link.away_because)
            self._stop.wait(wait)
        self._note_database(None)

    def _note_database(self, reason: str | None) -> None:
        """Let `syncd status` say since when the database is away."""
        if (reason is None) == (self._noted is None) and self._noted != "":
            return
        self._noted = reason
        facts = [Staleness(FLEET_AWAY, FLEET, reason, self._daemon.clock.now())] if reason else []
        try:
            self._daemon.app.store.facts.save_staleness(FLEET_AWAY, facts)
        except StoreError as error:
            LOG.debug("the state of the fleet's database was not saved: %s", error.message)

    def _tell_unlisted(self) -> None:
        """Tell the fleet which granted jobs this machine does not mirror: no wave waits for it."""
        now = self._daemon.clock.monotonic()
        if not self._may_be_unlisted or now < self._tell_at:
            return
        self._may_be_unlisted, self._tell_at = False, now + TELL_INTERVAL_SECONDS
        try:
            with self._fleet.link.begin() as connection:
                save_unlisted(connection, self._daemon.app.config.jobs)
        except SyncdError as error:
            LOG.debug("jobs that are not listed were not told: %s", error.message)
            self._may_be_unlisted = True

    def _on_notice(self, job: str | None) -> None:
        """Queue a run of the job, or of all where notices may have been missed."""
        jobs = self._daemon.app.config.jobs
        self._may_be_unlisted |= job is None or job not in jobs
        for name in jobs if job is None else [job] if job in jobs else []:
            now = self._daemon.clock.monotonic()
            earliest = self._started_at.get(name, -NOTICE_INTERVAL_SECONDS)
            due_at = max(now, earliest + NOTICE_INTERVAL_SECONDS)
            self._started_at[name] = due_at
            tick = self._daemon.clock.now().timestamp()
            self._daemon.queue.enqueue(name, Trigger.PUSH, tick, due_at)


__all__ = ["FleetAgent"]
