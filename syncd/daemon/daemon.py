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
from syncd.daemon.malloc import give_back
from syncd.daemon.push_trigger import PushTrigger
from syncd.daemon.queue import Queue
from syncd.daemon.run_log import RunLog
from syncd.daemon.scheduler import GUARD_SECONDS, Scheduler
from syncd.daemon.sd_notify import SdNotify
from syncd.daemon.worker import WorkerRunner
from syncd.errors import ConfigError, SyncdError
from syncd.github.webhook import Push, followers
from syncd.models import Job, Trigger
from syncd.recent_runs import Diffs, RecentRun, recent
from syncd.ref_names import is_short
from syncd.schedule import first_time, turns_of
from syncd.status import ProcessStats, StatusSnapshot, WebhookStats, read, read_heard, write_heard
from syncd.wiring import AN_HOUR, AppContext

LOG = logging.getLogger("syncd.daemon")
WRITES_SECONDS = 3.5  # a stop waits so long for what is being written; contract section 4: 5 s in all, and a process takes a moment to end
HOOKS_SECONDS = 22.0  # and so long for hooks, which then have some seconds to end; 30 s in all
END_SECONDS = 28.0
ABANDON_SECONDS = 3.0
FROZEN_SECONDS = 60.0
RESTING_MOST = 32  # of the runs that wait for a limit; threads are cheap and not free
IDLE_SECONDS = 30.0  # how long a worker sleeps when nobody wakes it
BUDGETS_SECONDS = 60.0


class Service(Protocol):
    """What lives beside the daemon: the web listener, notifications. `start` may raise SyncdError; the others say and go on.

    `frozen` says in words what does not move that should, and waits for nothing; None when all is well.
    """

    def start(self, daemon: Daemon) -> None: ...
    def reload(self, config: Config) -> None: ...
    def stop(self) -> None: ...
    def frozen(self) -> str | None: ...


class Daemon:
    """`load` reads the configuration again: it raises ConfigError with every mistake. Between `prepare` and `begin`, whoever has made it may turn the wheels."""

    def __init__(
        self,
        load: Callable[[], Config],
        environ: Mapping[str, str],
        companions: Sequence[Service] = (),
        clock: Clock | None = None,
        share: Callable[[], float] = random.random,
        open_workshop: Callable[[Config], AppContext] | None = None,
    ) -> None:
        self._load, self._environ, self._companions, self._share = (
            load,
            environ,
            list(companions),
            share,
        )
        self._open = open_workshop or (
            lambda config: AppContext.open(
                config, environ, clock=self.clock, waits_out_limits=False
            )
        )
        self.clock = clock or SystemClock()
        self.service = SdNotify(environ)
        self.queue = Queue(self.clock)
        self.telling = RunLog(self.clock)
        self.main_beat = self.clock.monotonic()
        self._diffs = Diffs()
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers_wanted, self._resting, self._staffing = 0, 0, threading.RLock()
        self._budgets_saved_at = self.clock.monotonic()
        self._tidied_at = self.clock.monotonic()
        self._holds_told: dict[str, float] | None = None
        self._heard_told: WebhookStats | None = None
        self._frozen: str | None = None
        self._starting, self._abandoned = threading.Lock(), False

    # --- beginning ----------------------------------------------------------------------------------------------------

    def prepare(self, config: Config) -> None:
        """The store is good, and every job of the configuration has its turns. Raises ConfigError, StoreError."""
        self.app = self._open(config)
        self.board = JobStatusBoard(self.clock.now())
        self.work = WorkerRunner(
            self.app, self.queue, self.board, self.telling, self._share, self._rest
        )
        self.bell = PushTrigger(self.clock, self.queue, self._followers, read_heard(self.app.store))
        self._heard_told = self.bell.heard()
        self.board.listen(self.bell.hear)
        self.timetable = Scheduler(self.clock, self._come, self._share)
        self._schedule(config, list(config.jobs), starting=True)
        self._counter = self.app.store.counter()
        for companion in self._companions:
            with self._starting:
                if self._abandoned:
                    return
                companion.start(self)

    def abandon(self) -> None:
        """What `prepare` has opened is closed again, and it opens nothing more; any thread may say so.

        Waits only for what is being opened at this moment, and not for long: a name may take its
        time to be looked up, and no socket is there before that.
        """
        if not self._starting.acquire(timeout=ABANDON_SECONDS):
            return
        try:
            self._abandoned = True
            self._stop_companions()
        finally:
            self._starting.release()

    def begin(self) -> None:
        """Threads run, and the service manager knows that we are ready."""
        self._spawn("syncd-clock", self._clock_loop)
        self._spawn("syncd-guard", lambda: self._every(self._pulse_seconds(), self.pulse))
        self._spawn("syncd-care", lambda: self._every(GUARD_SECONDS, self.care))
        self._staff(self.app.config.workers)
        give_back()
        LOG.info(
            "ready: %d jobs from %s, pid %d",
            len(self.app.config.jobs),
            self.app.config.path,
            os.getpid(),
        )
        self.service.ready(self.status())

    def _schedule(self, config: Config, names: Sequence[str], starting: bool = False) -> None:
        """These jobs have their turns, and stand on the board."""
        turns, now = turns_of(config.jobs, config.timezone), self.clock.now()
        for name in names:
            job, state = config.jobs[name], self.app.store.state(name)
            last_run = state.last_run_at if starting else None
            first = first_time(job, turns[name], last_run, now, len(names))
            self.timetable.set(name, turns[name], first)
            self.board.see(name, state, now)

    def _come(self, job: str, tick: float) -> None:
        self.queue.ask(job, Trigger.SCHEDULE, tick)

    def _followers(self, push: Push) -> list[str]:
        config = self.app.config
        names = followers(
            push,
            config.jobs.values(),
            {name: one.api for name, one in config.identities.items()},
            self.app.tally.numbers(),
        )
        self.work.pushed([name for name in names if is_short(config.jobs[name].ref)], push.ref)
        return names

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _staff(self, workers: int) -> None:
        """So many workers are at work; those that are too many leave when they are free."""
        with self._staffing:
            self._workers_wanted = workers
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            there = {thread.name for thread in self._threads}
            for number in range(workers):
                if f"syncd-worker-{number}" not in there:
                    self._spawn(f"syncd-worker-{number}", partial(self._worker_loop, number))

    def _rest(self, begins: bool) -> None:
        """A run waits for GitHub, or goes on: somebody else has its place meanwhile."""
        with self._staffing:
            self._resting += 1 if begins else -1
            if self._workers_wanted and not self._stop.is_set():
                self._staff(self.app.config.workers + min(self._resting, RESTING_MOST))

    # --- the wheels ---------------------------------------------------------------------------------------------------

    def _clock_loop(self) -> None:
        while not self._stop.is_set():
            wait = GUARD_SECONDS
            try:
                wait = self.timetable.tick()
            except Exception:
                LOG.exception("a bug in syncd, met by the clock; please report it with these lines")
            self._nudge.wait(wait)
            self._nudge.clear()

    def _worker_loop(self, number: int) -> None:
        while not self._stop.is_set() and number < self._workers_wanted:
            request = self.queue.wait(IDLE_SECONDS)
            if request is None:
                continue
            try:
                self.work.run(request)
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
        return min(GUARD_SECONDS, (self.service.watchdog_seconds or GUARD_SECONDS) / 3)

    def pulse(self) -> None:
        """The service manager knows that we are alive, if we are, and how things stand. Waits for nothing: neither store, nor disk, nor network."""
        frozen = self.frozen()
        if frozen is None:
            self.service.alive()
        elif frozen != self._frozen:
            LOG.error("%s; no sign of life is given until that ends", frozen)
        self._frozen = frozen
        self.service.status(self.status())

    def care(self) -> None:
        """What others did to the store is known, what we know is in it, and what nobody needs is gone."""
        self.telling.remind()
        self.work.forget_ticks(self.clock.now().timestamp() - AN_HOUR)
        try:
            self.work.save()
            self._look_at_the_store()
            self._tell_holds()
            self._tell_heard()
            if self.clock.monotonic() - self._budgets_saved_at >= BUDGETS_SECONDS:
                self._budgets_saved_at = self.clock.monotonic()
                self.app.save_budgets()
            if self.clock.monotonic() - self._tidied_at >= AN_HOUR:
                self._tidied_at = self.clock.monotonic()
                self.app.tidy()
                give_back()
        except SyncdError as error:
            LOG.warning("can't look into the store: %s", error.message)

    def frozen(self) -> str | None:
        """What does not move that should, in words; None when all is well. Not this: a run within its own limits, however long."""
        now = self.clock.monotonic()
        if now - self.timetable.last_tick > FROZEN_SECONDS:
            return f"the clock has not ticked for {now - self.timetable.last_tick:.0f} s"
        if now - self.main_beat > FROZEN_SECONDS:
            return f"the main loop has not been heard of for {now - self.main_beat:.0f} s"
        running, stuck = self.work.under_way(), self.work.stuck()
        if stuck and len(stuck) >= self._workers_wanted:
            return f"every worker is stuck: {', '.join(stuck[:5])} should have ended long ago"
        waited = self.queue.longest_wait_seconds()
        if waited > FROZEN_SECONDS and len(running) < self._workers_wanted:
            return f"a run has been waiting for {waited:.0f} s though there are free workers"
        return next(filter(None, (companion.frozen() for companion in self._companions)), None)

    def _look_at_the_store(self) -> None:
        """End the waits of jobs that were resumed or synced by another command."""
        counter = self.app.store.counter()
        if counter == self._counter:
            return
        self._counter, now = counter, self.clock.now()
        for name, card in self.board.cards().items():
            held = self.queue.hold_of(name) is not None
            if not card.paused and not held:
                continue
            state = self.app.store.state(name)
            if card.paused and not state.paused(now):
                self.board.see(name, state, now)
                self.queue.ask(name, Trigger.START)
            elif held and not state.failures and state.last_error_kind is None:
                self.board.see(name, state, now)
                self.queue.release([name])

    def _tell_holds(self) -> None:
        """Commands beside us can say when a failed job's turn is: the next one after its hold."""
        holds = self.queue.holds()
        if holds != self._holds_told:
            self._holds_told = holds
            now, monotonic = self.clock.now(), self.clock.monotonic()
            self.app.store.facts.save_backoffs(
                {job: now + timedelta(seconds=until - monotonic) for job, until in holds.items()}
            )

    def _tell_heard(self) -> None:
        heard = self.bell.heard()
        if heard is not self._heard_told:
            self._heard_told = heard
            write_heard(self.app.store, heard)

    def life(self) -> ProcessStats:
        """What only this process knows, at this moment: the readings of web and metrics are made with it."""
        app, config = self.app, self.app.config
        return ProcessStats(
            self.board.started_at,
            self.board.counts.runs(),
            self.board.counts.seconds(),
            app.tally.by_code(),
            app.rate_limits(),
            app.expiries(),
            {name: self.next_run(name) for name in config.jobs},
            frozenset(self.work.under_way()),
            app.tally.skew_seconds,
            self.board.reload_ok,
            self.bell.heard(),
        )

    def readings(self) -> StatusSnapshot:
        """How everything stands now. Raises StoreError."""
        return read(self.app.config, self.app.store, self.clock.now(), self.life())

    def recent(self, show_diffs: bool) -> tuple[RecentRun, ...]:
        """What the last runs changed. Raises StoreError."""
        return recent(self.app.store, self.app.blobs, show_diffs, self._diffs)

    def next_run(self, job: str) -> datetime | None:
        """When the job runs next: at its next turn that nothing holds it from; None for one without turns."""
        turn = self.timetable.next_run(job)
        hold = self.queue.hold_of(job)
        if turn is None or hold is None or (left := hold.until - self.clock.monotonic()) <= 0:
            return turn
        free = self.clock.now() + timedelta(seconds=left)
        return (
            turn if turn >= free else free if hold.retry else self.timetable.turn_after(job, free)
        )

    def status(self) -> str:
        """One line on how things are."""
        cards = self.board.cards()
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
        running = self.work.under_way()
        parts += (
            [f"at work on {', '.join(running[:3])}{', …' if len(running) > 3 else ''}"]
            if running
            else []
        )
        parts += [] if self.board.reload_ok else ["the last reload was refused"]
        return ", ".join(parts)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """The main loop is alive; it says so more often than every minute."""
        self.main_beat = self.clock.monotonic()

    def all_now(self) -> None:
        """Every job is asked for, as a hand would."""
        LOG.info("asked to start every job now")
        tick = self.clock.now().timestamp()
        for name in self.app.config.jobs:
            self.queue.ask(name, Trigger.OPERATOR, tick)

    def reload(self) -> bool:
        """The configuration as it is now is in force, and only what it changes is disturbed; or it is wrong, and nothing has changed."""
        self.service.reloading()
        try:
            config = self._load()
            self._take_over(config)
        except SyncdError as error:
            self._refused(error)
        except Exception as error:
            LOG.exception("a bug in syncd, met while reloading; please report it with these lines")
            self._refused(ConfigError(f"{type(error).__name__}: {error}"))
        self.service.ready(self.status())
        return self.board.reload_ok

    def _refused(self, error: SyncdError) -> None:
        self.board.reload_ok, self.board.reload_error = False, error.message
        LOG.error(
            "the configuration was not reloaded, the old one stays: %s%s",
            error.message,
            f" → {error.hint}" if error.hint else "",
        )

    def _take_over(self, config: Config) -> None:
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
        others = self.app.adopt(config)  # identities whose key, token or address is another one now
        affected = {
            name
            for name in stay
            if config.jobs[name].identity in others
            or _without_turns(config.jobs[name]) != _without_turns(before.jobs[name])
        }
        for name in removed:
            self.timetable.remove(name)
            self.queue.drop(name)
            self.board.drop(name)
            self.telling.forget(name)
            self.bell.forget(name)
        self._schedule(config, sorted(turns), starting=True)
        self._schedule(config, added)
        self.queue.release(sorted(affected))
        for name in sorted(affected):
            self.queue.ask(name, Trigger.START)
        self._staff(config.workers)
        self.board.reload_ok, self.board.reload_error = True, None
        for companion in self._companions:
            companion.reload(config)
        self._nudge.set()
        give_back()
        untouched = len(config.jobs) - len(added) - len(affected | turns)
        LOG.info(
            "reloaded: %d jobs added, %d removed, %d changed, %d untouched",
            len(added),
            len(removed),
            len(affected | turns),
            untouched,
        )

    # --- ending -------------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Hooks are ended too, now."""
        self.app.hook_stop.set()

    def stop(self, keep_listening: Callable[[float], None] = time.sleep) -> bool:
        """Nothing of ours runs any more, or has been given up: then False, and the process should end at once.

        What is given up is safe: a run that dies anywhere is taken up by the next start. `keep_listening` waits a moment and hears signals.
        """
        began = hooks_until = time.monotonic()
        self.service.stopping("finishing what is being written")
        LOG.info(
            "stopping: %s",
            f"waiting for {', '.join(running)}"
            if (running := self.work.under_way())
            else "nothing is running",
        )
        self._stop.set()
        self._nudge.set()
        self.app.stop.set()
        self.queue.close()
        closing = threading.Thread(target=self._close, name="syncd-close", daemon=True)
        closing.start()
        while closing.is_alive():
            now = time.monotonic()
            hooks_until = now if self.app.hooks.running else hooks_until
            if now - began > HOOKS_SECONDS:
                self.hurry()
            if now - began > END_SECONDS or now - hooks_until > WRITES_SECONDS:
                left = ", ".join(self.work.under_way()) or "the store"
                LOG.warning(
                    "did not end in time: %s; it is safe to leave now, the next start goes on with it",
                    left,
                )
                return False
            keep_listening(0.02)
        LOG.info("stopped")
        return True

    def _stop_companions(self) -> None:
        for companion in self._companions:
            try:
                companion.stop()
            except Exception:
                LOG.exception("could not stop %s", type(companion).__name__)

    def _close(self) -> None:
        self._stop_companions()
        for thread in self._threads:
            thread.join()
        try:
            self._tell_heard()
            self.work.save()
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
