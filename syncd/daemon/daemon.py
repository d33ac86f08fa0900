"""The daemon: connects scheduler, queue, workers and watchdog, and starts, reloads and stops them.

It is ready only when configuration and store are good. A configuration with a mistake is refused as
a whole, and the old one stays. A stop ends every wait, lets what is being written finish, and gives
running hooks a little longer. An exception inside a thread is logged and does not end the thread.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from syncd.clock import Clock, SystemClock
from syncd.config.model import Config
from syncd.daemon.context import DaemonContext
from syncd.daemon.fleet_watch import FleetWatch
from syncd.daemon.head_lookahead import HeadLookahead
from syncd.daemon.housekeeping import Housekeeper
from syncd.daemon.job_control import JobControl
from syncd.daemon.job_status import JobStatus, JobStatusBoard
from syncd.daemon.malloc import trim_heap
from syncd.daemon.push_trigger import PushTrigger, is_announced
from syncd.daemon.queue import Queue
from syncd.daemon.reload import apply_config, schedule_jobs
from syncd.daemon.run_log import RunLog
from syncd.daemon.scheduler import MAX_SLEEP_SECONDS, Scheduler
from syncd.daemon.sd_notify import SdNotify
from syncd.daemon.watchdog import Watchdog
from syncd.daemon.worker import WorkerRunner
from syncd.errors import ConfigError, StoreError, SyncdError
from syncd.github.webhook import Push, jobs_for_push
from syncd.models import RunReport, Trigger
from syncd.recent_runs import DiffCache, RecentRun, RunHistory, read_recent_runs
from syncd.ref_names import is_short
from syncd.status import ProcessStats, StatusSnapshot, load_webhook_stats, read_status
from syncd.wiring import AppContext, ConnectionOptions

LOG = logging.getLogger("syncd.daemon")
BUG = "a bug in syncd, met by %s; please report it with these lines"
# A stop waits so long for writes (contract section 4: 5 s in all; a process needs time to end),
WRITES_GRACE_SECONDS = 3.5
HOOKS_GRACE_SECONDS = 22.0  # and so long for hooks, which then have some seconds to end,
STOP_TIMEOUT_SECONDS = 28.0  # so that it takes 30 s in all.
ABANDON_TIMEOUT_SECONDS = 3.0
MAX_EXTRA_WORKERS = 32  # in place of runs that wait for a rate limit; threads are cheap, not free
IDLE_WAIT_SECONDS = 30.0  # how long a worker sleeps when there is nothing to run


class Service(Protocol):
    """A service beside the daemon: the web listener, notifications."""

    def start(self, daemon: Daemon) -> None:
        """Start. Raises SyncdError; the other methods log a failure and go on."""

    def reload(self, config: Config) -> None:
        """Use another configuration."""

    def stop(self) -> None:
        """Stop."""

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well. Waits for nothing."""


class Daemon:
    """The long-running process: it schedules, runs and watches the jobs.

    `load` reads the configuration again; it raises ConfigError with every mistake.

    Between `prepare` and `begin` no thread runs, and a test can call the scheduler and the workers
    itself. The last three parameters, of six, are for tests.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        environ: Mapping[str, str],
        services: Sequence[Service] = (),
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        open_app: Callable[[Config], AppContext] | None = None,
    ) -> None:
        self._load, self._environ, self._services = load, environ, list(services)
        self._jitter, self._open = jitter, open_app or self._open_app
        self.clock = clock or SystemClock()
        self.sd_notify, self.queue = SdNotify(environ), Queue(self.clock)
        self.run_log, self._diffs = RunLog(self.clock), DiffCache()
        self.on_push: Callable[[Sequence[str]], None] = lambda names: None  # of a controller
        self.fleet_watch: FleetWatch | None = None  # of a member of a fleet
        self._stop, self._wake = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers_wanted, self._waiting_runs, self._pool_lock = 0, 0, threading.RLock()
        self._starting, self._abandoned = threading.Lock(), False

    def _open_app(self, config: Config) -> AppContext:
        options = ConnectionOptions(wait_for_limits=False)
        return AppContext.open(config, self._environ, options, self.clock)

    # --- start ------------------------------------------------------------------------------------

    def prepare(self, config: Config) -> None:
        """Open the store, schedule every job and start the services.

        Raises ConfigError, StoreError.
        """
        self.app = self._open(config)
        self.job_status = JobStatusBoard(self.clock.now())
        self.runner = WorkerRunner(
            self.app, self.queue, self.job_status, self.run_log, self._jitter, self._on_waiting
        )
        self.push_trigger = PushTrigger(
            self.clock,
            self.queue,
            self._jobs_for,
            load_webhook_stats(self.app.store),
            self._paused_of,
            lambda job: is_announced(self.app.config, job),
            self.app.store.facts.save_commit_summary,
        )
        self.job_status.subscribe(self.push_trigger.run_finished)
        self.scheduler = Scheduler(self.clock, self._on_due, self._jitter)
        self.job_status.subscribe(self._wake_for_window)
        self._parts = DaemonContext(
            self.app,
            self.clock,
            self.queue,
            self.run_log,
            self.job_status,
            self.runner,
            self.push_trigger,
            self.scheduler,
        )
        self.job_control = JobControl(self._parts)
        self.runner.before_run = HeadLookahead(self._parts).prepare
        schedule_jobs(self._parts, config, list(config.jobs), starting=True)
        self._housekeeper = Housekeeper(self._parts)
        self._watchdog = Watchdog(
            self._parts,
            self.sd_notify,
            lambda: self._workers_wanted,
            lambda: (service.stall_reason() for service in self._services),
        )
        self._start_services()

    def _start_services(self) -> None:
        for service in self._services:
            with self._starting:
                if self._abandoned:
                    return
                service.start(self)

    def abandon(self) -> None:
        """Close what `prepare` has opened, and let it open nothing more. For any thread.

        It waits only for what is being opened at this moment, and not for long: looking up a host
        name may take its time, and no socket is open before that.
        """
        if not self._starting.acquire(timeout=ABANDON_TIMEOUT_SECONDS):
            return
        try:
            self._abandoned = True
            self._stop_services()
        finally:
            self._starting.release()

    def begin(self) -> None:
        """Start the threads, and tell systemd that the daemon is ready."""
        self._spawn("syncd-clock", self._clock_loop)
        ping_seconds = (self.sd_notify.watchdog_seconds or MAX_SLEEP_SECONDS) / 3
        ping_seconds = min(MAX_SLEEP_SECONDS, ping_seconds)
        self._spawn("syncd-guard", lambda: self._every(ping_seconds, self.watchdog_ping))
        self._spawn("syncd-care", lambda: self._every(MAX_SLEEP_SECONDS, self.housekeeping))
        self._resize_pool(self.app.config.workers)
        trim_heap()
        self.housekeeping()
        config = self.app.config
        LOG.info("ready: %d jobs from %s, pid %d", len(config.jobs), config.path, os.getpid())
        self.sd_notify.ready(self.status())

    def _on_due(self, job: str, tick: float) -> None:
        self.queue.enqueue(job, Trigger.SCHEDULE, tick)

    def _wake_for_window(self, report: RunReport, _before: JobStatus) -> None:
        """Let the job run when the commit that waits may be applied, or its reload may run."""
        window = None if report.waiting is None else report.waiting.until
        known = [moment for moment in (window, report.reload_at) if moment is not None]
        if known or report.error is None:
            self.scheduler.wake_at(report.job, min(known, default=None))
            self._wake.set()

    def _jobs_for(self, push: Push) -> list[str]:
        """Return the jobs that follow the pushed ref."""
        config = self.app.config
        jobs, numbers = config.polled_jobs, self.app.connections.repository_numbers()
        apis = {name: one.api for name, one in config.identities.items()}
        names = jobs_for_push(push, jobs.values(), apis, numbers)
        self.runner.ref_pushed([name for name in names if is_short(jobs[name].ref)], push.ref)
        self.on_push(names)
        return names

    def _paused_of(self, names: Sequence[str]) -> set[str]:
        """Return which of the jobs are paused or held; none where the store can't be read."""
        if not names:
            return set()
        with suppress(StoreError):
            states, now = self.app.store.states(names), self.clock.now()
            return {name for name, state in states.items() if state.paused(now)}
        return set()

    # --- threads ----------------------------------------------------------------------------------

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _resize_pool(self, workers: int) -> None:
        """Start workers up to this number. Surplus workers end when they are free."""
        with self._pool_lock:
            self._workers_wanted = workers
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            alive = {thread.name for thread in self._threads}
            for number in range(workers):
                if f"syncd-worker-{number}" not in alive:
                    self._spawn(f"syncd-worker-{number}", partial(self._worker_loop, number))

    def _on_waiting(self, begins: bool) -> None:
        """Start another worker while a run waits for GitHub, so that other jobs go on."""
        with self._pool_lock:
            self._waiting_runs += 1 if begins else -1
            if self._workers_wanted and not self._stop.is_set():
                extra = min(self._waiting_runs, MAX_EXTRA_WORKERS)
                self._resize_pool(self.app.config.workers + extra)

    def _clock_loop(self) -> None:
        while not self._stop.is_set():
            wait = MAX_SLEEP_SECONDS
            try:
                wait = self.scheduler.tick()
            except Exception:
                LOG.exception(BUG, "the clock")
            self._wake.wait(wait)
            self._wake.clear()

    def _worker_loop(self, number: int) -> None:
        while not self._stop.is_set() and number < self._workers_wanted:
            request = self.queue.wait(IDLE_WAIT_SECONDS)
            if request is None:
                continue
            try:
                self.runner.run(request)
            except Exception:
                LOG.exception(BUG, "a worker")

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            try:
                work()
            except Exception:
                LOG.exception(BUG, threading.current_thread().name)

    def housekeeping(self) -> None:
        """Exchange facts with other processes through the store, and free what is unused."""
        self._housekeeper.run(is_stalled=self.stall_reason() is not None)

    def watchdog_ping(self) -> None:
        """Send the sign of life and the status line to systemd."""
        self._watchdog.ping()

    # --- status -----------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Record that the main loop is alive; it calls this more often than every minute."""
        self._watchdog.last_heartbeat = self.clock.monotonic()

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well."""
        return self._watchdog.stall_reason()

    def status(self) -> str:
        """Return one line on how the jobs are."""
        return self._watchdog.status_line()

    def process_stats(self) -> ProcessStats:
        """Return what only this process knows, for the status page and the metrics.

        Raises StoreError.
        """
        app, jobs = self.app, self.job_status
        return ProcessStats(
            jobs.started_at,
            jobs.counts.runs(),
            jobs.counts.seconds(),
            app.request_metrics.by_code(),
            app.observed_limits(),
            app.token_expiries(),
            {name: self.next_run(name) for name in app.config.jobs},
            frozenset(self.runner.active_jobs()),
            app.request_metrics.skew_seconds,
            jobs.reload_ok,
            self.push_trigger.stats(),
        )

    def status_snapshot(self) -> StatusSnapshot:
        """Return the status of every job now. Raises StoreError."""
        return read_status(self.app.config, self.app.store, self.clock.now(), self.process_stats())

    def recent_runs(self, show_diffs: bool) -> tuple[RecentRun, ...]:
        """Return what the last runs changed. Raises StoreError."""
        return read_recent_runs(self.app.store, self.app.blobs, show_diffs, self._diffs)

    @property
    def run_history(self) -> RunHistory:
        """Return the reader of past runs."""
        return RunHistory(self.app.store, self.app.blobs, self._diffs)

    def next_run(self, job: str) -> datetime | None:
        """Return the job's first scheduled run after its back-off; None without a schedule."""
        scheduled, backoff = self.scheduler.next_run(job), self.queue.backoff_of(job)
        if scheduled is None or backoff is None:
            return scheduled
        ends = self.clock.now() + timedelta(seconds=backoff.until - self.clock.monotonic())
        if backoff.until <= self.clock.monotonic() or scheduled >= ends:
            return scheduled
        return ends if backoff.retry else self.scheduler.scheduled_after(job, ends)

    # --- signals ----------------------------------------------------------------------------------

    def run_all_now(self) -> None:
        """Queue a run of every job, as an operator would."""
        LOG.info("SIGUSR1 starts every job now")
        tick = self.clock.now().timestamp()
        for name in self.app.config.jobs:
            self.queue.enqueue(name, Trigger.OPERATOR, tick)

    def reload(self) -> bool:
        """Read the configuration again and apply its changes; a wrong one changes nothing.

        Returns whether it was applied.
        """
        self.sd_notify.reloading()
        try:
            self._apply(self._load())
        except SyncdError as error:
            self._reload_failed(error)
        except Exception as error:
            LOG.exception("a bug in syncd, met while reloading; please report it with these lines")
            self._reload_failed(ConfigError(f"{type(error).__name__}: {error}"))
        self.sd_notify.ready(self.status())
        return self.job_status.reload_ok

    def _apply(self, config: Config) -> None:
        changes = apply_config(self._parts, config)
        self._resize_pool(config.workers)
        self.job_status.reload_ok, self.job_status.reload_error = True, None
        for service in self._services:
            service.reload(config)
        self._wake.set()
        trim_heap()
        LOG.info(
            "reloaded: %d jobs added, %d removed, %d changed, %d untouched",
            len(changes.added),
            len(changes.removed),
            changes.changed,
            len(config.jobs) - len(changes.added) - changes.changed,
        )

    def _reload_failed(self, error: SyncdError) -> None:
        self.job_status.reload_ok, self.job_status.reload_error = False, error.message
        LOG.error(
            "the configuration was not reloaded, the old one stays: %s%s",
            error.message,
            f" → {error.hint}" if error.hint else "",
        )

    # --- stop -------------------------------------------------------------------------------------

    def kill_hooks(self) -> None:
        """End running hooks too, now."""
        self.app.hook_stop.set()

    def stop(self, keep_listening: Callable[[float], None] = time.sleep) -> bool:
        """Stop everything.

        Returns False if something did not end in time; the process should then exit at once.

        That is safe: the next start recovers a run that died anywhere. `keep_listening` waits a
        moment and handles signals.
        """
        self._announce_stop()
        closing = threading.Thread(target=self._close, name="syncd-close", daemon=True)
        closing.start()
        began = no_hooks_since = time.monotonic()
        while closing.is_alive():
            now = time.monotonic()
            no_hooks_since = now if self.app.hooks.running else no_hooks_since
            if now - began > HOOKS_GRACE_SECONDS:
                self.kill_hooks()
            is_late = now - began > STOP_TIMEOUT_SECONDS
            if is_late or now - no_hooks_since > WRITES_GRACE_SECONDS:
                LOG.warning(
                    "%s did not end in time; it is safe to leave now, and the next start recovers",
                    ", ".join(self.runner.active_jobs()) or "the store",
                )
                return False
            keep_listening(0.02)
        LOG.info("stopped")
        return True

    def _announce_stop(self) -> None:
        running = ", ".join(self.runner.active_jobs())
        self.sd_notify.stopping("finishing what is being written")
        LOG.info("stopping: %s", f"waiting for {running}" if running else "nothing is running")
        self._stop.set()
        self._wake.set()
        self.app.stop.set()
        self.queue.close()

    def _stop_services(self) -> None:
        for service in self._services:
            try:
                service.stop()
            except Exception:
                LOG.exception("syncd could not stop %s", type(service).__name__)

    def _close(self) -> None:
        self._stop_services()
        for thread in self._threads:
            thread.join()
        try:
            self._housekeeper.save_webhook_stats()
            self.runner.save_checked()
            self._housekeeper.save_heartbeat(pid=None)
        except SyncdError as error:
            LOG.warning("syncd can't save when unchanged jobs were last checked: %s", error.message)
        self.app.close(revoke=True)


__all__ = ["Daemon", "Service"]
