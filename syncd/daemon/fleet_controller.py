"""The controller of a fleet: claims due jobs, polls them side by side, and gives them back.

Any number of controllers do this on the same jobs. A controller that stops gives its leases back;
one that dies or freezes loses them after LEASE_SECONDS. Nothing is kept here that another
controller would need.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from syncd import __version__
from syncd.config.model import Config
from syncd.daemon.backoff import Backoff, next_backoff
from syncd.daemon.daemon import Daemon
from syncd.daemon.fleet_heads import BATCH_SECONDS, MAX_CLAIMS, FleetHeads
from syncd.daemon.fleet_leases import HeldLeases
from syncd.daemon.fleet_publisher import Poll, settings_of
from syncd.errors import (
    BugError,
    LockedError,
    StoppedError,
    SyncdError,
    UnreachableError,
    unexpected,
)
from syncd.fleet import leases, waves
from syncd.fleet.controllers import (
    SEEN_EVERY_SECONDS,
    remove_controller,
    save_controller,
    still_there,
)
from syncd.fleet.leases import Lease, PollResult
from syncd.fleet.retention import forget_old
from syncd.fleet.rollout import StepKind
from syncd.github.request_cache import SingleFlight
from syncd.models import Job, RunReport, RunStatus, Trigger
from syncd.ports import Head
from syncd.schedule import schedules_of
from syncd.status.fleet import ControllerStats
from syncd.wiring.fleet import LEASE_SECONDS, FleetParts

LOG = logging.getLogger("syncd.fleet")
MAX_SLEEP_SECONDS = 5.0
MAX_RECONNECT_SECONDS = 30.0
STOP_SECONDS = 3.0
FAR_SECONDS = 7 * 86_400.0  # of a cron expression that never comes
STALLED_SECONDS = 120.0
RETENTION_SECONDS = 3600.0


class FleetController:
    """A service of the daemon: publishes the jobs of the configuration."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._polls: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._failures, self._forget_at, self._say_at = 0, 0.0, 0.0
        self._to_list: set[str] = set()  # published once although the commit is the same
        self._wake, self._pushed = threading.Event(), set[str]()

    # --- service ----------------------------------------------------------------------------------

    def start(self, daemon: Daemon) -> None:
        """Start claiming. Raises ConfigError for a key that can't sign."""
        app = self._app = daemon.app
        self._parts: FleetParts = app.fleet
        self._signer = self._parts.signer()
        self._database = self._parts.controller_database()
        self._held = HeldLeases(app.clock, LEASE_SECONDS)
        self._heads = FleetHeads(app)
        self._ticked_at = app.clock.monotonic()
        self._registered = False
        daemon.on_push = self.poll_now
        if daemon.fleet_watch is not None:
            daemon.fleet_watch.controller = self.stats
        workers = app.config.workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="syncd-poll")
        self._free = workers
        for name, work in (("claims", self._claim_loop), ("leases", self._renew_loop)):
            thread = threading.Thread(target=work, name=f"syncd-fleet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        LOG.info("controller %s: %d jobs", self._parts.name, len(self._jobs))

    def reload(self, config: Config) -> None:
        """Use the jobs of another configuration from the next claim on."""
        self._registered = False

    def stop(self) -> None:
        """Give every lease back, after a moment for the polls that end by themselves."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._give_back(self._held.all())
        self._database.close()

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well."""
        late = self._app.clock.monotonic() - self._ticked_at
        return "the fleet's controller" if late > STALLED_SECONDS else None

    def stats(self) -> ControllerStats:
        """Return how many jobs are held now, and what came of the polls."""
        with self._lock:
            return ControllerStats(len(self._held.all()), dict(self._polls))

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._polls[outcome] += 1

    @property
    def _jobs(self) -> dict[str, Job]:
        return dict(self._app.config.polled_jobs)

    # --- claims -----------------------------------------------------------------------------------

    def _claim_loop(self) -> None:
        while not self._stop.is_set():
            self._ticked_at = self._app.clock.monotonic()
            try:
                self._make_pushed_due()
                wait = self.claim_due()
                self._advance_rollouts()
                self._say_that_it_runs()
                self._forget_old()
                self._after_success()
            except SyncdError as error:
                wait = self._after_failure(error)
            except Exception:
                LOG.exception("a bug in syncd, met by the controller; please report these lines")
                wait = MAX_SLEEP_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def poll_now(self, jobs: Sequence[str]) -> None:
        """Let these jobs be polled at once, by this controller or another. Returns at once."""
        with self._lock:
            self._pushed.update(jobs)
        self._wake.set()

    def _make_pushed_due(self) -> None:
        """Write which jobs were pushed; they stay noted where the database is away."""
        with self._lock:
            pushed = set(self._pushed)
        if pushed:
            with self._database.begin() as connection:
                leases.make_due(connection, sorted(pushed))
            with self._lock:
                self._pushed -= pushed

    def _advance_rollouts(self) -> None:
        """Take the next step of each rollout whose agents have reported."""
        with self._database.begin() as connection:
            steps = waves.advance(connection, self._parts.name)
        for job, step in steps:
            level = logging.ERROR if step.kind is StepKind.STOP else logging.INFO
            LOG.log(level, "%s: rollout: %s %s", job, step.kind.value, step.reason)

    def _say_that_it_runs(self) -> None:
        """Write now and then that the controller is there."""
        now = self._app.clock.monotonic()
        if now >= self._say_at:
            self._say_at = now + SEEN_EVERY_SECONDS
            with self._database.begin() as connection:
                if not still_there(connection, self._parts.name):
                    self._registered = False

    def _forget_old(self) -> None:
        """Remove old revisions and contents once an hour."""
        now = self._app.clock.monotonic()
        if now < self._forget_at:
            return
        self._forget_at = now + RETENTION_SECONDS
        with self._database.begin() as connection:
            revisions, contents = forget_old(connection)
        if revisions or contents:
            LOG.info("removed %d old revisions and %d contents", revisions, contents)

    def _after_failure(self, error: SyncdError) -> float:
        """Return how long to wait: a random part of a time that doubles."""
        if not self._failures:
            LOG.error("the controller waits: %s%s", error.message, _hint(error))
        self._registered = False  # another server may answer next, which lost the last commits
        self._failures += 1
        return self._jitter() * min(MAX_RECONNECT_SECONDS, 2.0 ** min(self._failures, 10))

    def _after_success(self) -> None:
        if self._failures:
            LOG.info("the controller goes on: the fleet's database answers again")
        self._failures = 0

    def claim_due(self) -> float:
        """Claim as many due jobs as there are free workers, and start their polls.

        Where many heads are asked for at once, more jobs are claimed, and those without news are
        given back. Returns the seconds until there may be more. Raises what the database raises.
        """
        jobs = self._jobs
        if not self._registered:
            self._register(jobs)
        # A poll whose lease was lost may not have ended yet.
        free_jobs = [name for name in jobs if not self._held.has(name)]
        asked_at = self._app.clock.monotonic()
        with self._database.begin() as connection:
            free = max(0, self._free)
            in_batches = free > 0 and self._heads.in_batches()
            most = MAX_CLAIMS if in_batches else free
            found = leases.claim(connection, self._parts.name, free_jobs, LEASE_SECONDS, most)
            due = leases.seconds_until_due(connection, free_jobs) if not found else 0.0
            if not found:
                self._registered = leases.are_registered(connection, jobs)
        shared: dict[str, SingleFlight] = {}  # answers of GitHub, of the jobs claimed together
        for lease in self._with_news(found, jobs) if in_batches else found:
            self._hold(lease, asked_at)
            job = jobs[lease.job]
            cache = shared.setdefault(job.identity, SingleFlight())
            self._pool.submit(self._poll, job, lease, cache)
        if found or not free:
            return BATCH_SECONDS if in_batches and len(found) < MAX_CLAIMS else 0.05
        return MAX_SLEEP_SECONDS if due is None else min(MAX_SLEEP_SECONDS, max(0.05, due))

    def _with_news(self, found: list[Lease], jobs: Mapping[str, Job]) -> list[Lease]:
        """Return the claimed jobs to poll; give those without news back."""
        unchanged = self._heads.unchanged(found, jobs, self._to_list)
        waits = [
            (lease, self._next_seconds(jobs[lease.job], lease))
            for lease in found
            if lease.job in unchanged
        ]
        with self._database.begin() as connection:
            leases.release_unchanged(connection, waits)
        return [lease for lease in found if lease.job not in unchanged]

    def _register(self, jobs: Mapping[str, Job]) -> None:
        """Write which jobs there are. Those that this controller lists in another way are due."""
        self._registered = True  # a reload that comes meanwhile asks for it again
        try:
            with self._database.begin() as connection:
                leases.register(connection, jobs)
                settings = {name: settings_of(job) for name, job in jobs.items()}
                self._to_list = leases.listed_otherwise(connection, settings)
                leases.make_due(connection, self._to_list)
                save_controller(connection, self._parts.name, __version__, settings)
        except SyncdError:
            self._registered = False
            raise

    def _hold(self, lease: Lease, asked_at: float) -> None:
        self._held.add(lease, asked_at)
        with self._lock:
            self._free -= 1

    def _let_go(self, lease: Lease) -> None:
        self._held.remove(lease)
        with self._lock:
            self._free += 1

    def _renew_loop(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            held = self._held.all()
            if not held:
                continue
            asked_at = self._app.clock.monotonic()
            try:
                with self._database.begin() as connection:
                    kept = leases.renew(connection, held, LEASE_SECONDS)
            except SyncdError as error:
                LOG.warning("%d leases were not renewed: %s", len(held), error.message)
                continue
            for lease in held:
                if lease.job in kept:
                    self._held.renewed(lease, asked_at)
                elif self._held.has(lease.job):
                    self._held.lost(lease)
                    LOG.warning("%s: another controller has taken the job over", lease.job)

    def _give_back(self, held: Iterable[Lease]) -> None:
        try:
            with self._database.begin() as connection:
                remove_controller(connection, self._parts.name)
                for lease in held:
                    leases.release(connection, lease, None)
        except SyncdError as error:
            LOG.warning("the leases end by themselves: %s", error.message)

    # --- polls ------------------------------------------------------------------------------------

    def _poll(self, job: Job, lease: Lease, shared: SingleFlight) -> None:
        """Poll one job, and give it back with what was found. Raises nothing."""
        try:
            result = self._result(job, lease, shared)
            with self._database.begin() as connection:
                leases.release(connection, lease, result)
        except Exception as error:  # noqa: BLE001  (a lease that is not given back ends by itself)
            LOG.warning("%s: the lease was not given back: %s", job.name, error)
        finally:
            self._let_go(lease)

    def _result(self, job: Job, lease: Lease, shared: SingleFlight) -> PollResult | None:
        """Return how the poll ended; None where it did not: the job is due at once.

        It ends early when syncd stops, and when the job is another controller's, or may be.
        """
        head: Head | None = None
        app = self._app
        deadline = app.deadline(job, Trigger.SCHEDULE)
        deadline.may_retry = lease.failures == 0
        deadline.may_go_on = partial(self._held.check, lease)
        try:
            with app.blobs.shared_lock():
                ctx = app.run_context(job, shared)
                poll = Poll(job, lease, ctx, deadline, self._parts.name)
                head = poll.resolve()
                is_new = not poll.is_published(head, job.name in self._to_list)
                if is_new:
                    revision = poll.publish(head, self._database, self._signer)
                    LOG.info("%s: published %s", job.name, revision.commit[:7])
                self._to_list.discard(job.name)
            self._count("published" if is_new else "unchanged")
            return PollResult(self._next_seconds(job, lease), head)
        except (LockedError, StoppedError) as error:
            LOG.warning("%s", error.message)
            self._count("refused")
            return None
        except Exception as error:  # noqa: BLE001  (a bug in one job stops no other)
            return self._failed(job, lease, head, error)

    def _failed(self, job: Job, lease: Lease, head: Head | None, error: Exception) -> PollResult:
        self._count("failed")
        known = error if isinstance(error, SyncdError) else unexpected(error)
        if isinstance(known, BugError):
            LOG.exception("a bug in syncd, met by %s; please report it with these lines", job.name)
        LOG.error("%s: %s%s", job.name, known.message, _hint(known))
        wait = max(self._next_seconds(job, lease), self._backoff_seconds(job, lease, known))
        return PollResult(wait, head, known.id, known.message)

    def _backoff_seconds(self, job: Job, lease: Lease, error: SyncdError) -> float:
        report = RunReport(job.name, RunStatus.FAILED, job.repo, job.ref, None, None, error=error)
        clock = self._app.clock
        before = Backoff(lease.failures, 0.0) if lease.failures else None
        hold = next_backoff(report, before, job.every_seconds, clock, self._jitter())
        if hold is None or isinstance(error, UnreachableError):
            return 0.0
        return max(0.0, hold.until - clock.monotonic())

    def _next_seconds(self, job: Job, lease: Lease) -> float:
        """Return the seconds until the job's next poll, by the server's time of the claim."""
        if job.every_seconds is not None:
            jitter = min(job.jitter_seconds, job.every_seconds / 2)
            return job.every_seconds + self._jitter() * jitter
        schedule = schedules_of({job.name: job}, self._app.config.timezone)[job.name]
        due = schedule.next_after(lease.now)
        return FAR_SECONDS if due is None else max(0.0, (due - lease.now) / timedelta(seconds=1))


def _hint(error: SyncdError) -> str:
    return f" → {error.hint}" if error.hint else ""


__all__ = ["FleetController"]
