"""`syncd run`: the daemon, which follows every job's schedule until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

import click

from syncd.cli.common import Settings
from syncd.cli.notifying import notification_sender
from syncd.config.folder import ignored_line
from syncd.config.load import find_config, load_with_positions
from syncd.config.model import Config
from syncd.config.secrets import check_secrets
from syncd.daemon import logging_setup
from syncd.daemon.catch_up import CatchUp, watched_apps
from syncd.daemon.daemon import BUG, Daemon, Service
from syncd.daemon.fleet_watch import FleetWatch
from syncd.daemon.malloc import tune_malloc
from syncd.daemon.signals import Signals
from syncd.errors import ConfigError, SyncdError
from syncd.notifications.sender import NotificationSender
from syncd.store.access import check_process_is_owner
from syncd.store.lock import daemon_lock
from syncd.store.migrate import has_current_schema
from syncd.store.store import FILE_NAME, SqliteStore

if TYPE_CHECKING:
    from syncd.config.model import Web as WebConfig
    from syncd.web.server import Web

LOG = logging.getLogger("syncd.daemon")
HEARTBEAT_SECONDS = 5.0
POLL_INTERVAL_SECONDS = 0.02
NOTIFY_SECONDS = 1.0
CATCH_UP_SECONDS = 5.0  # between two looks whether something is due
CATCH_UP_STOP_SECONDS = 1.0


@click.command(name="run", short_help="The daemon: follow every job's schedule.")
@click.pass_obj
def command(settings: Settings) -> int:
    """Keep every job in sync by its schedule, until SIGTERM or SIGINT.

    SIGHUP reads the configuration again (a wrong one is refused and the old one stays), SIGUSR1
    starts every job now.
    """
    with Signals() as signals:
        config = load(settings, starting=True)
        set_up_logging(settings, config)
        with daemon_lock(config.state):
            make_store_ready(config, signals)
            tune_malloc()
            daemon = Daemon(lambda: load(settings), settings.environ, services(settings))
            return serve(daemon, config, signals)


def load(settings: Settings, starting: bool = False) -> Config:
    """Return the configuration with its secrets checked.

    Raises ConfigError with every mistake, and at the start NotOwnerError for a user who does not
    own the state.
    """
    config, problem_at = load_with_positions(
        find_config(settings.config, settings.environ), settings.environ
    )
    if starting:
        # before a lock file of ours could be in its owner's way, and before reading a secret that
        # only the owner may read
        check_process_is_owner(config.state)
    problems = check_secrets(config, settings.environ, problem_at)
    if problems:
        raise ConfigError(problems)
    return config


def make_store_ready(config: Config, signals: Signals) -> None:
    """Create or migrate the store in a child process.

    What that needs to load, ten megabytes, would otherwise stay in memory for months. Nothing runs
    beside us yet, so a fork is safe. An error is reported when the store is opened next.
    """
    if has_current_schema(config.state / FILE_NAME):
        return
    child = os.fork()
    if child == 0:
        try:
            SqliteStore.open(config.state, config.state_group).close()
        except SyncdError:
            os._exit(1)
        finally:
            os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if signals.wait(POLL_INTERVAL_SECONDS) & {signal.SIGTERM, signal.SIGINT}:
            # a migration is one transaction: whatever happens to the child, the next start finds
            # the old schema or the new one
            _exit_now(0)


def services(settings: Settings) -> list[Service]:
    """Return the services that run beside the scheduler and the workers."""
    fleet = FleetService()
    web = WebService(settings, fleet)
    return [LogService(settings), NotifyService(settings), web, CatchUpService(), fleet]


class LogService:
    """Applies `log:`, also after a reload. -v and -q on the command line take precedence."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self, daemon: Daemon) -> None:
        """Log the ignored files; logging itself was set up before."""
        _log_ignored(daemon.app.config)

    def reload(self, config: Config) -> None:
        """Apply the new settings."""
        set_up_logging(self._settings, config)
        _log_ignored(config)

    def stop(self) -> None:
        """Do nothing: the last line is still to be logged."""

    def stall_reason(self) -> str | None:
        """Return None: it has no thread of its own."""
        return None


def _log_ignored(config: Config) -> None:
    """Log the files of a configuration folder that were left out though they look alike."""
    if config.ignored:
        LOG.warning("%s", ignored_line(config.ignored))


class NotifyService:
    """Sends notifications for changes of a job's state."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender: NotificationSender | None = None

    def start(self, daemon: Daemon) -> None:
        """Start the sender, and subscribe it to finished runs."""
        self._sender = sender = notification_sender(daemon.app, self._settings.environ)
        sender.stale_reasons = lambda: {
            one.job.name: one.stale
            for one in daemon.status_snapshot().jobs
            if one.stale is not None
        }
        daemon.job_status.subscribe(lambda report, _before: sender.notify(report))
        sender.start()

    def reload(self, config: Config) -> None:
        """Use the new endpoints."""
        if self._sender is not None:
            self._sender.replace_config(config)

    def stop(self) -> None:
        """Stop the sender; what is not sent by then waits in the store for the next start."""
        if self._sender is not None:
            self._sender.close(NOTIFY_SECONDS)

    def stall_reason(self) -> str | None:
        """Return None: a message that is late is in the store."""
        return None


class FleetService:
    """Runs what `fleet:` asks for: a controller, an agent, or both."""

    def __init__(self) -> None:
        self._parts: list[Service] = []

    def start(self, daemon: Daemon) -> None:
        """Start what the role is. Raises ConfigError, also where psycopg is not installed."""
        fleet = daemon.app.config.fleet
        if fleet is None:
            return
        self.watch(daemon)
        if fleet.role.mirrors:
            from syncd.daemon.fleet_agent import FleetAgent

            self._add(FleetAgent(), daemon)
        if fleet.role.controls:
            from syncd.daemon.fleet_controller import FleetController

            self._add(FleetController(), daemon)

    def watch(self, daemon: Daemon) -> None:
        """Let the pages look at the fleet, where there is one. Raises ConfigError."""
        fleet = daemon.app.config.fleet
        if fleet is None or daemon.fleet_watch is not None:
            return
        parts, app = daemon.app.fleet, daemon.app
        read = parts.read if fleet.role.controls else None
        daemon.fleet_watch = FleetWatch(daemon.clock, lambda: app.config, read)

    def _add(self, part: Service, daemon: Daemon) -> None:
        part.start(daemon)
        self._parts.append(part)

    def reload(self, config: Config) -> None:
        """Use the new jobs."""
        for part in self._parts:
            part.reload(config)

    def stop(self) -> None:
        """Stop what runs: leases are given back."""
        for part in self._parts:
            part.stop()

    def stall_reason(self) -> str | None:
        """Return what does not move and should, or None."""
        reasons = (part.stall_reason() for part in self._parts)
        return next((reason for reason in reasons if reason is not None), None)


class WebService:
    """Runs the listener of `web:` while the configuration has one."""

    def __init__(self, settings: Settings, fleet: FleetService) -> None:
        self._settings, self._fleet = settings, fleet
        self._asked: WebConfig | None = None
        self._web: Web | None = None

    def start(self, daemon: Daemon) -> None:
        """Open the listener."""
        self._daemon = daemon
        self._fleet.watch(daemon)
        self._open(daemon.app.config.web)

    def reload(self, config: Config) -> None:
        """Replace the listener if `web:` has changed.

        An unchanged one is left alone, unless it could not be opened the last time.
        """
        if config.web == self._asked and (self._web is not None or config.web is None):
            return
        self.stop()
        try:
            self._open(config.web)
        except SyncdError as error:
            LOG.error(
                "syncd can't open the listener of web: %s%s",
                error.message,
                f" → {error.hint}" if error.hint else "",
            )

    def stop(self) -> None:
        """Close the listener."""
        if self._web is not None:
            self._web.close()
            self._web = None

    def stall_reason(self) -> str | None:
        """Return what does not move in the listener and should, or None."""
        web = self._web
        return None if web is None else web.stall_reason()

    def _open(self, asked: WebConfig | None) -> None:
        self._asked = asked
        if asked is not None:
            from syncd.web.server import Web  # Flask and waitress, for those who want a page alone

            self._web = Web(asked, self._daemon, self._settings.environ)


class CatchUpService:
    """Looks for pushes that did not reach the webhook, on a thread, while there is a webhook."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, daemon: Daemon) -> None:
        """Start the thread if the configuration has a webhook."""
        self._catch_up = CatchUp(daemon.app, daemon.push_trigger, daemon.clock)
        self.reload(daemon.app.config)

    def reload(self, config: Config) -> None:
        """Start the thread if the configuration has a webhook now."""
        if self._thread is None and next(watched_apps(config), None) is not None:
            self._thread = threading.Thread(target=self._loop, name="syncd-catch-up", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread. A request under way ends with the daemon's own stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CATCH_UP_STOP_SECONDS)

    def stall_reason(self) -> str | None:
        """Return None: what it finds late, schedules find too."""
        return None

    def _loop(self) -> None:
        while True:
            try:
                self._catch_up.run_if_due()
            except Exception:
                LOG.exception(BUG, "the search for missed deliveries")
            if self._stop.wait(CATCH_UP_SECONDS):
                return


def set_up_logging(settings: Settings, config: Config) -> None:
    """Set up the daemon's log from the configuration and the command line."""
    level = "debug" if settings.verbose else "error" if settings.quiet else config.log.level
    logging_setup.set_up(config.log.format, level, settings.environ)


def serve(daemon: Daemon, config: Config, signals: Signals) -> int:
    """Run the daemon until it is stopped, and return the exit code.

    The start runs in a thread beside, so that a signal ends it too.
    """
    failures: list[BaseException] = []
    prepared = threading.Event()

    def prepare() -> None:
        """Prepare the daemon, and wake the main thread."""
        try:
            daemon.prepare(config)
        except BaseException as error:  # noqa: BLE001  (handed to the main thread, which raises it)
            failures.append(error)
        # before the nudge: a thread that is about to end is still alive when it is looked at, and
        # nothing would nudge again
        prepared.set()
        signals.wake()

    threading.Thread(target=prepare, name="syncd-start", daemon=True).start()
    wanted: set[int] = set()
    while not prepared.is_set():
        wanted |= signals.wait(HEARTBEAT_SECONDS)
        if wanted & {signal.SIGTERM, signal.SIGINT}:
            LOG.info("a signal stopped the daemon before it had begun")
            daemon.abandon()
            _exit_now(0)
    if failures:
        daemon.abandon()
        raise failures[0]
    daemon.begin()
    while not wanted & {signal.SIGTERM, signal.SIGINT}:
        daemon.heartbeat()
        if signal.SIGHUP in wanted:
            daemon.reload()
        if signal.SIGUSR1 in wanted:
            daemon.run_all_now()
        wanted = signals.wait(HEARTBEAT_SECONDS)

    def listen(seconds: float) -> None:
        """Wait for signals; a second stop signal kills the running hooks."""
        if signals.wait(seconds) & {signal.SIGTERM, signal.SIGINT}:
            daemon.kill_hooks()

    if not daemon.stop(listen):
        _exit_now(0)
    return 0


def _exit_now(code: int) -> None:
    """End the process, whatever its threads do: none of them leaves anything half done on disk."""
    logging.shutdown()
    os._exit(code)


__all__ = ["command", "serve", "services"]
