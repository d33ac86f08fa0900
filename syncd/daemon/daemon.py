"""The daemon: clock, queue, workers and guard put together; how it starts, reloads and ends.

Promises: ready only after configuration and store are good; a configuration with a mistake is refused as a whole and the old one stays;
a stop ends every wait, lets what is being written be finished, and gives hooks that run a little longer. Nothing that fails inside a
thread ends it: it is logged, and the next turn comes. The guard tells the service manager that we are alive only while clock, queue,
main loop and listener move.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from syncd.clock import Clock, SystemClock
from syncd.config.model import Config
from syncd.daemon.job_status import JobStatusBoard
from syncd.daemon.malloc import trim_heap
from syncd.daemon.push_trigger import PushTrigger
from syncd.daemon.queue import Queue
from syncd.daemon.run_log import RunLog
from syncd.daemon.scheduler import MAX_SLEEP_SECONDS, Scheduler
from syncd.daemon.sd_notify import SdNotify
from syncd.daemon.worker import WorkerRunner
from syncd.errors import ConfigError, SyncdError
from syncd.github.webhook import Push, jobs_for_push
from syncd.models import Job, Trigger
from syncd.recent_runs import Diffs, RecentRun, recent
from syncd.ref_names import is_short
from syncd.schedule import first_time, turns_of
from syncd.status import (
    ProcessStats,
    StatusSnapshot,
    WebhookStats,
    load_webhook_stats,
    read_status,
    save_webhook_stats,
)
from syncd.wiring import AppContext

LOG = logging.getLogger("syncd.daemon")
WRITES_GRACE_SECONDS = 3.5  # a stop waits so long for what is being written; contract section 4: 5 s in all, and a process takes a moment to end
HOOKS_GRACE_SECONDS = (
    22.0  # and so long for hooks, which then have some seconds to end; 30 s in all
)
STOP_TIMEOUT_SECONDS = 28.0
ABANDON_TIMEOUT_SECONDS = 3.0
STALL_SECONDS = 60.0
MAX_EXTRA_WORKERS = 32  # of the runs that wait for a limit; threads are cheap and not free
HOUR_SECONDS = 3600.0
IDLE_WAIT_SECONDS = 30.0  # how long a worker sleeps when nobody wakes it
SAVE_LIMITS_INTERVAL_SECONDS = 60.0


class Service(Protocol):
    """What lives beside the daemon: the web listener, notifications. `start` may raise SyncdError; the others say and go on.

    `frozen` says in words what does not move that should, and waits for nothing; None when all is well.
    """

    def start(self, daemon: Daemon) -> None: ...
    def reload(self, config: Config) -> None: ...
    def stop(self) -> None: ...
    def stall_reason(self) -> str | None: ...


class Daemon:
    """`load` reads the configuration again: it raises ConfigError with every mistake. Between `prepare` and `begin`, whoever has made it may turn the wheels."""

    def __init__(
        self,
        load: Callable[[], Config],
        environ: Mapping[str, str],
        services: Sequence[Service] = (),
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        open_app: Callable[[Config], AppContext] | None = None,
    ) -> None:
        self._load, self._environ, self._services, self._jitter = (
            load,
            environ,
            list(services),
            jitter,
        )
        self._open = open_app or (
            lambda config: AppContext.open(config, environ, clock=self.clock, wait_for_limits=False)
        )
        self.clock = clock or SystemClock()
        self.sd_notify = SdNotify(environ)
        self.queue = Queue(self.clock)
        self.run_log = RunLog(self.clock)
        self.last_heartbeat = self.clock.monotonic()
        self._diffs = Diffs()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers_wanted, self._waiting_runs, self._pool_lock = 0, 0, threading.RLock()
        self._limits_saved_at = self.clock.monotonic()
        self._cleaned_up_at = self.clock.monotonic()
        self._saved_backoffs: dict[str, float] | None = None
        self._saved_webhook_stats: WebhookStats | None = None
        self._stall_reason: str | None = None
        self._starting, self._abandoned = threading.Lock(), False

    # --- beginning ----------------------------------------------------------------------------------------------------

    def prepare(self, config: Config) -> None:
        """The store is good, and every job of the configuration has its turns. Raises ConfigError, StoreError."""
        self.app = self._open(config)
        self.job_status = JobStatusBoard(self.clock.now())
        self.runner = WorkerRunner(
            self.app, self.queue, self.job_status, self.run_log, self._jitter, self._on_waiting
        )
        self.push_trigger = PushTrigger(
            self.clock, self.queue, self._followers, load_webhook_stats(self.app.store)
        )
        self._saved_webhook_stats = self.push_trigger.stats()
        self.job_status.subscribe(self.push_trigger.run_finished)
        self.scheduler = Scheduler(self.clock, self._on_due, self._jitter)
        self._schedule(config, list(config.jobs), starting=True)
        self._counter = self.app.store.counter()
        for service in self._services:
            with self._starting:
                if self._abandoned:
                    return
                service.start(self)

    def abandon(self) -> None:
        """What `prepare` has opened is closed again, and it opens nothing more; any thread may say so.

        Waits only for what is being opened at this moment, and not for long: a name may take its
        time to be looked up, and no socket is there before that.
        """
        if not self._starting.acquire(timeout=ABANDON_TIMEOUT_SECONDS):
            return
        try:
            self._abandoned = True
            self._stop_services()
        finally:
            self._starting.release()

    def begin(self) -> None:
        """Threads run, and the service manager knows that we are ready."""
        self._spawn("syncd-clock", self._clock_loop)
        self._spawn("syncd-guard", lambda: self._every(self._pulse_seconds(), self.watchdog_ping))
        self._spawn("syncd-care", lambda: self._every(MAX_SLEEP_SECONDS, self.housekeeping))
        self._resize_pool(self.app.config.workers)
        trim_heap()
        LOG.info(
            "ready: %d jobs from %s, pid %d",
            len(self.app.config.jobs),
            self.app.config.path,
            os.getpid(),
        )
        self.sd_notify.ready(self.status())

    def _schedule(self, config: Config, names: Sequence[str], starting: bool = False) -> None:
        """These jobs have their turns, and stand on the board."""
        turns, now = turns_of(config.jobs, config.timezone), self.clock.now()
        for name in names:
            job, state = config.jobs[name], self.app.store.state(name)
            last_run = state.last_run_at if starting else None
            first = first_time(job, turns[name], last_run, now, len(names))
            self.scheduler.set(name, turns[name], first)
            self.job_status.set(name, state, now)

    def _on_due(self, job: str, tick: float) -> None:
        self.queue.enqueue(job, Trigger.SCHEDULE, tick)

    def _followers(self, push: Push) -> list[str]:
        config = self.app.config
        names = jobs_for_push(
            push,
            config.jobs.values(),
            {name: one.api for name, one in config.identities.items()},
            self.app.request_metrics.renamed_repositories(),
        )
        self.runner.ref_pushed(
            [name for name in names if is_short(config.jobs[name].ref)], push.ref
        )
        return names

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _resize_pool(self, workers: int) -> None:
        """So many workers are at work; those that are too many leave when they are free."""
        with self._pool_lock:
            self._workers_wanted = workers
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            there = {thread.name for thread in self._threads}
            for number in range(workers):
                if f"syncd-worker-{number}" not in there:
                    self._spawn(f"syncd-worker-{number}", partial(self._worker_loop, number))

    def _on_waiting(self, begins: bool) -> None:
        """A run waits for GitHub, or goes on: somebody else has its place meanwhile."""
        with self._pool_lock:
            self._waiting_runs += 1 if begins else -1
            if self._workers_wanted and not self._stop.is_set():
                self._resize_pool(
                    self.app.config.workers + min(self._waiting_runs, MAX_EXTRA_WORKERS)
                )

    # --- the wheels ---------------------------------------------------------------------------------------------------

    def _clock_loop(self) -> None:
        while not self._stop.is_set():
            wait = MAX_SLEEP_SECONDS
            try:
                wait = self.scheduler.tick()
            except Exception:
                LOG.exception("a bug in syncd, met by the clock; please report it with these lines")
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
                LOG.exception("a bug in syncd, met by a worker; please report it with these lines")

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            try:
                work()
            except Exception:
                LOG.exception(
                    "a bug in syncd, met by %s; please report it with these lines",
                    threading.current_thread().name,
                )

    def _pulse_seconds(self) -> float:
        return min(MAX_SLEEP_SECONDS, (self.sd_notify.watchdog_seconds or MAX_SLEEP_SECONDS) / 3)

    def watchdog_ping(self) -> None:
        """The service manager knows that we are alive, if we are, and how things stand. Waits for nothing: neither store, nor disk, nor network."""
        stalled = self.stall_reason()
        if stalled is None:
            self.sd_notify.alive()
        elif stalled != self._stall_reason:
            LOG.error("%s; no sign of process is given until that ends", stalled)
        self._stall_reason = stalled
        self.sd_notify.status(self.status())

    def housekeeping(self) -> None:
        """What others did to the store is known, what we know is in it, and what nobody needs is gone."""
        self.run_log.log_still_failing()
        self.runner.forget_old_ticks(self.clock.now().timestamp() - HOUR_SECONDS)
        try:
            self.runner.save_checked()
            self._apply_store_changes()
            self._save_backoffs()
            self._save_webhook_stats()
            if self.clock.monotonic() - self._limits_saved_at >= SAVE_LIMITS_INTERVAL_SECONDS:
                self._limits_saved_at = self.clock.monotonic()
                self.app.save_rate_limits()
            if self.clock.monotonic() - self._cleaned_up_at >= HOUR_SECONDS:
                self._cleaned_up_at = self.clock.monotonic()
                self.app.clean_up()
                trim_heap()
        except SyncdError as error:
            LOG.warning("can't look into the store: %s", error.message)

    def stall_reason(self) -> str | None:
        """What does not move that should, in words; None when all is well. Not this: a run within its own limits, however long."""
        now = self.clock.monotonic()
        if now - self.scheduler.last_tick > STALL_SECONDS:
            return f"the clock has not ticked for {now - self.scheduler.last_tick:.0f} s"
        if now - self.last_heartbeat > STALL_SECONDS:
            return f"the main loop has not been heard of for {now - self.last_heartbeat:.0f} s"
        running, stuck = self.runner.active_jobs(), self.runner.stuck_jobs()
        if stuck and len(stuck) >= self._workers_wanted:
            return f"every worker is stuck: {', '.join(stuck[:5])} should have ended long ago"
        waited = self.queue.longest_wait_seconds()
        if waited > STALL_SECONDS and len(running) < self._workers_wanted:
            return f"a run has been waiting for {waited:.0f} s though there are free workers"
        return next(filter(None, (service.stall_reason() for service in self._services)), None)

    def _apply_store_changes(self) -> None:
        """End the waits of jobs that were resumed or synced by another command."""
        counter = self.app.store.counter()
        if counter == self._counter:
            return
        self._counter, now = counter, self.clock.now()
        for name, card in self.job_status.statuses().items():
            held = self.queue.backoff_of(name) is not None
            if not card.paused and not held:
                continue
            state = self.app.store.state(name)
            if card.paused and not state.paused(now):
                self.job_status.set(name, state, now)
                self.queue.enqueue(name, Trigger.START)
            elif held and not state.failures and state.last_error_kind is None:
                self.job_status.set(name, state, now)
                self.queue.clear_backoff([name])

    def _save_backoffs(self) -> None:
        """Commands beside us can say when a failed job's turn is: the next one after its hold."""
        holds = self.queue.active_backoffs()
        if holds != self._saved_backoffs:
            self._saved_backoffs = holds
            now, monotonic = self.clock.now(), self.clock.monotonic()
            self.app.store.facts.save_backoffs(
                {job: now + timedelta(seconds=until - monotonic) for job, until in holds.items()}
            )

    def _save_webhook_stats(self) -> None:
        heard = self.push_trigger.stats()
        if heard is not self._saved_webhook_stats:
            self._saved_webhook_stats = heard
            save_webhook_stats(self.app.store, heard)

    def process_stats(self) -> ProcessStats:
        """What only this process knows, at this moment: the readings of web and metrics are made with it."""
        app, config = self.app, self.app.config
        return ProcessStats(
            self.job_status.started_at,
            self.job_status.counts.runs(),
            self.job_status.counts.seconds(),
            app.request_metrics.by_code(),
            app.observed_limits(),
            app.token_expiries(),
            {name: self.next_run(name) for name in config.jobs},
            frozenset(self.runner.active_jobs()),
            app.request_metrics.skew_seconds,
            self.job_status.reload_ok,
            self.push_trigger.stats(),
        )

    def status_snapshot(self) -> StatusSnapshot:
        """How everything stands now. Raises StoreError."""
        return read_status(self.app.config, self.app.store, self.clock.now(), self.process_stats())

    def recent_runs(self, show_diffs: bool) -> tuple[RecentRun, ...]:
        """What the last runs changed. Raises StoreError."""
        return recent(self.app.store, self.app.blobs, show_diffs, self._diffs)

    def next_run(self, job: str) -> datetime | None:
        """When the job runs next: at its next turn that nothing holds it from; None for one without turns."""
        turn = self.scheduler.next_run(job)
        hold = self.queue.backoff_of(job)
        if turn is None or hold is None or (left := hold.until - self.clock.monotonic()) <= 0:
            return turn
        free = self.clock.now() + timedelta(seconds=left)
        return (
            turn if turn >= free else free if hold.retry else self.scheduler.turn_after(job, free)
        )

    def status(self) -> str:
        """One line on how things are."""
        cards = self.job_status.statuses()
        failing = sorted(name for name, card in cards.items() if card.error is not None)
        parts = [f"{len(cards)} jobs"]
        if failing:
            parts.append(
                f"{len(failing)} failing ({', '.join(failing[:3])}{', …' if len(failing) > 3 else ''})"
            )
        parts += [
            f"{count} {what}"
            for what, count in (
                ("drifted", sum(bool(card.drifted) for card in cards.values())),
                ("paused", sum(card.paused for card in cards.values())),
            )
            if count
        ]
        running = self.runner.active_jobs()
        parts += (
            [f"at work on {', '.join(running[:3])}{', …' if len(running) > 3 else ''}"]
            if running
            else []
        )
        parts += [] if self.job_status.reload_ok else ["the last reload was refused"]
        return ", ".join(parts)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """The main loop is alive; it says so more often than every minute."""
        self.last_heartbeat = self.clock.monotonic()

    def run_all_now(self) -> None:
        """Every job is asked for, as a hand would."""
        LOG.info("asked to start every job now")
        tick = self.clock.now().timestamp()
        for name in self.app.config.jobs:
            self.queue.enqueue(name, Trigger.OPERATOR, tick)

    def reload(self) -> bool:
        """The configuration as it is now is in force, and only what it changes is disturbed; or it is wrong, and nothing has changed."""
        self.sd_notify.reloading()
        try:
            config = self._load()
            self._apply(config)
        except SyncdError as error:
            self._reload_failed(error)
        except Exception as error:
            LOG.exception("a bug in syncd, met while reloading; please report it with these lines")
            self._reload_failed(ConfigError(f"{type(error).__name__}: {error}"))
        self.sd_notify.ready(self.status())
        return self.job_status.reload_ok

    def _reload_failed(self, error: SyncdError) -> None:
        self.job_status.reload_ok, self.job_status.reload_error = False, error.message
        LOG.error(
            "the configuration was not reloaded, the old one stays: %s%s",
            error.message,
            f" → {error.hint}" if error.hint else "",
        )

    def _apply(self, config: Config) -> None:
        before = self.app.config
        if config.state != before.state:
            raise ConfigError(
                f"state: {config.state} is another folder than {before.state}",
                hint="a new state folder needs a restart: systemctl restart syncd",
            )
        added = [name for name in config.jobs if name not in before.jobs]
        removed = [name for name in before.jobs if name not in config.jobs]
        stay = [name for name in config.jobs if name in before.jobs]
        turns = {name for name in stay if _turns(config, name) != _turns(before, name)}
        others = self.app.replace_config(
            config
        )  # identities whose key, token or address is another one now
        affected = {
            name
            for name in stay
            if config.jobs[name].identity in others
            or _without_turns(config.jobs[name]) != _without_turns(before.jobs[name])
        }
        for name in removed:
            self.scheduler.remove(name)
            self.queue.remove(name)
            self.job_status.remove(name)
            self.run_log.forget(name)
            self.push_trigger.forget(name)
        self._schedule(config, sorted(turns), starting=True)
        self._schedule(config, added)
        self.queue.clear_backoff(sorted(affected))
        for name in sorted(affected):
            self.queue.enqueue(name, Trigger.START)
        self._resize_pool(config.workers)
        self.job_status.reload_ok, self.job_status.reload_error = True, None
        for service in self._services:
            service.reload(config)
        self._wake.set()
        trim_heap()
        untouched = len(config.jobs) - len(added) - len(affected | turns)
        LOG.info(
            "reloaded: %d jobs added, %d removed, %d changed, %d untouched",
            len(added),
            len(removed),
            len(affected | turns),
            untouched,
        )

    # --- ending -------------------------------------------------------------------------------------------------------

    def kill_hooks(self) -> None:
        """Hooks are ended too, now."""
        self.app.hook_stop.set()

    def stop(self, keep_listening: Callable[[float], None] = time.sleep) -> bool:
        """Nothing of ours runs any more, or has been given up: then False, and the process should end at once.

        What is given up is safe: a run that dies anywhere is taken up by the next start. `keep_listening` waits a moment and hears signals.
        """
        began = hooks_until = time.monotonic()
        self.sd_notify.stopping("finishing what is being written")
        LOG.info(
            "stopping: %s",
            f"waiting for {', '.join(running)}"
            if (running := self.runner.active_jobs())
            else "nothing is running",
        )
        self._stop.set()
        self._wake.set()
        self.app.stop.set()
        self.queue.close()
        closing = threading.Thread(target=self._close, name="syncd-close", daemon=True)
        closing.start()
        while closing.is_alive():
            now = time.monotonic()
            hooks_until = now if self.app.hooks.running else hooks_until
            if now - began > HOOKS_GRACE_SECONDS:
                self.kill_hooks()
            if now - began > STOP_TIMEOUT_SECONDS or now - hooks_until > WRITES_GRACE_SECONDS:
                left = ", ".join(self.runner.active_jobs()) or "the store"
                LOG.warning(
                    "did not end in time: %s; it is safe to leave now, the next start goes on with it",
                    left,
                )
                return False
            keep_listening(0.02)
        LOG.info("stopped")
        return True

    def _stop_services(self) -> None:
        for service in self._services:
            try:
                service.stop()
            except Exception:
                LOG.exception("could not stop %s", type(service).__name__)

    def _close(self) -> None:
        self._stop_services()
        for thread in self._threads:
            thread.join()
        try:
            self._save_webhook_stats()
            self.runner.save_checked()
        except SyncdError as error:
            LOG.warning("the store does not know of the last quiet runs: %s", error.message)
        self.app.close(revoke=True)


def _turns(config: Config, name: str) -> tuple[object, ...]:
    job = config.jobs[name]
    return job.every_seconds, job.cron, job.jitter_seconds, config.timezone if job.cron else None


def _without_turns(job: Job) -> Job:
    """The job, whenever it runs."""
    return replace(job, every_seconds=None, cron=None, jitter_seconds=0.0)


__all__ = ["Daemon", "Service"]
