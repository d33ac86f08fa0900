"""Worker: execute one request of the queue under the job's lock, and act on its report.

Any error inside a run is that job's failure and no other's. A job that another process has locked
is retried soon. Runs of one tick share GitHub's answers about refs, paths and trees.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.daemon.backoff import Backoff, next_backoff, with_first_runs
from syncd.daemon.health_windows import HealthWindows
from syncd.daemon.job_status import JobStatusBoard
from syncd.daemon.queue import Queue, Request
from syncd.daemon.run_log import RunLog
from syncd.daemon.scheduler import CLOCK_STEP_SECONDS
from syncd.deadline import Deadline
from syncd.engine import reload_state
from syncd.engine.context import Options, RunContext
from syncd.engine.health_check import NextCheck, continue_check, window_report
from syncd.engine.reload import JobRun, run_reload
from syncd.engine.run import run_job
from syncd.engine.unchanged import UnchangedState, still_unchanged, unchanged_state
from syncd.errors import BugError, LockedError, StoreError, SyncdError, unexpected
from syncd.github.request_cache import SingleFlight
from syncd.models import Job, RunReport, RunStatus, Trigger
from syncd.ports import Head, JobState
from syncd.schedule import fraction_of, schedules_of
from syncd.wiring import AppContext

LOG = logging.getLogger("syncd.daemon")
# how soon a job that another process holds is asked for again; twice as long each time, up to a
# minute
LOCKED_RETRY_SECONDS = 5.0
MAX_KNOWN_FILES = 50_000  # of all unchanged jobs together; the others are compared with the store
MAX_LOCKED_RETRY_SECONDS = 60.0
MAX_TICKS = 1000
OVERDUE_SECONDS = (
    120.0  # beyond its own limits a run may take so long, before its worker counts as stuck
)


class ActiveRun(Struct):
    """A run in progress, and when it must have ended by `timeout` and the `hook_timeout` of each
    hook.
    """

    job: str
    ends_by: float


class WorkerRunner:
    """Executes requests. `run` is called from many threads.

    Six parameters: four collaborators, and two callables that tests replace.
    """

    def __init__(
        self,
        app: AppContext,
        queue: Queue,
        job_status: JobStatusBoard,
        run_log: RunLog,
        jitter: Callable[[], float] = random.random,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> None:
        self._app, self._queue, self._job_status, self._run_log = app, queue, job_status, run_log
        self._salt, self._on_waiting = jitter(), on_waiting
        self._lock = threading.Lock()
        self._shared: OrderedDict[tuple[str, float], tuple[float, SingleFlight]] = OrderedDict()
        self._locked: dict[str, int] = {}
        self._active: dict[int, ActiveRun] = {}
        self._unchanged: dict[str, UnchangedState] = {}
        self._checked: dict[str, tuple[JobState, datetime]] = {}
        self._pushed: dict[str, frozenset[str]] = {}
        self._windows = HealthWindows()
        self._failing_since: dict[str, float] = {}
        # called before a run, which may find in the shared answers that its head is unchanged
        self.before_run: Callable[[Job, Trigger, SingleFlight], None] = lambda *_: None

    def ref_pushed(self, jobs: Iterable[str], ref: str) -> None:
        """Note that `ref` (refs/heads/main) was pushed, for the next run of these jobs.

        It may be a second ref with their short name.
        """
        with self._lock:
            for job in jobs:
                self._pushed[job] = self._pushed.get(job, frozenset()) | {ref.removeprefix("refs/")}

    def known_head(self, job: Job) -> Head | None:
        """Return the head that the job's next run compares with; None where it asks anew."""
        with self._lock:
            known = self._unchanged.get(job.name)
        if known is not None:
            return known.head
        with suppress(StoreError):
            return self._app.stored_head(job)
        return None

    def run(self, request: Request) -> None:
        """Run the job, and update queue, status and log. Raises nothing."""
        job = self._app.config.jobs.get(request.job)
        if job is None:  # removed while it waited
            self._pushed.pop(request.job, None)
            self._queue.finish(request.job)
            return
        clock, worker = self._app.clock, threading.get_ident()
        self._active[worker] = ActiveRun(
            job.name, clock.monotonic() + _longest_seconds(job) + OVERDUE_SECONDS
        )
        before, shared = self._queue.backoff_of(job.name), self._shared_responses(job, request.tick)
        deadline = self._app.deadline(job, request.trigger, self._on_waiting)
        deadline.failures = shared.failures
        deadline.may_retry = (
            before is None or request.trigger.interactive
        )  # a job that fails is retried by its back-off alone
        try:
            self.before_run(job, request.trigger, shared)
            report = self._report(job, request, deadline, shared)
            if isinstance(report, NextCheck):
                self._check_later(job, report.seconds, before)
                return
            interval, cost = self._interval_of(job), deadline.cost + deadline.shared_request_count
            hold = next_backoff(
                report, before, interval, clock, self._jitter_of(job, request.tick), cost
            )
            hold = self._with_first_runs(job, hold)
        finally:
            self._active.pop(worker, None)
        if self._windows.is_open(job.name) and not isinstance(report.error, LockedError):
            self._check_later(job, job.health.interval_seconds if job.health else 0.0, None)
        else:
            self._queue.finish(job.name, before if isinstance(report.error, LockedError) else hold)
        if report.checking and not report.reload_pending and job.health is not None:
            self._windows.goes_on(job.name, Trigger.RETRY)
            self._enqueue_check(job, job.health.interval_seconds)
        self._after_run(report)

    def _with_first_runs(self, job: Job, hold: Backoff | None) -> Backoff | None:
        """Return the back-off, which `first:` makes shorter until the job's first success."""
        if hold is None or job.first is None:
            self._failing_since.pop(job.name, None)
            return hold
        now = self._app.clock.monotonic()
        since = self._failing_since.setdefault(job.name, now)
        with suppress(StoreError):
            if self._app.store.state(job.name).last_success_at is None:
                return with_first_runs(hold, job.first, since, now)
        return hold

    def _check_later(self, job: Job, seconds: float, backoff: Backoff | None) -> None:
        """End the turn of a job whose health window goes on; its next check comes after that
        time.
        """
        self._queue.finish(job.name, backoff)
        self._enqueue_check(job, seconds)

    def _enqueue_check(self, job: Job, seconds: float) -> None:
        due_at = self._app.clock.monotonic() + seconds
        self._queue.enqueue(job.name, Trigger.RETRY, due_at=due_at)

    def _jitter_of(self, job: Job, tick: float) -> float:
        """Return a random number that is equal for all jobs that asked GitHub the same question.

        They back off together and ask again together.
        """
        return fraction_of(f"{self._salt} {job.identity} {job.repo.lower()} {job.ref} {tick}")

    def _interval_of(self, job: Job) -> float | None:
        """Return the seconds between the job's next two scheduled runs; None without a schedule."""
        if job.every_seconds is not None:
            return job.every_seconds
        schedule = schedules_of({job.name: job}, self._app.config.timezone)[job.name]
        first = schedule.next_after(self._app.clock.now())
        second = schedule.next_after(first) if first is not None else None
        return None if first is None or second is None else (second - first).total_seconds()

    def _report(
        self, job: Job, request: Request, deadline: Deadline, shared: SingleFlight
    ) -> RunReport | NextCheck:
        """Return the report of the job's run, or of its health check; or when the next check is
        due.
        """
        known = self._unchanged.get(job.name)
        with self._lock:
            pushed = self._pushed.pop(job.name, frozenset())
        try:
            ctx = self._app.run_context(job, shared)
            if known is not None and not pushed <= {known.head.form}:
                known = None  # a run has to look whether the short name means another ref as well
            unchanged = (
                still_unchanged(known, job, ctx, deadline, request.trigger)
                if known is not None
                else None
            )
            if known is not None and unchanged is not None:
                with self._lock:
                    self._checked[job.name] = (known.state, self._app.clock.now())
                return unchanged
            self._forget_unchanged(job.name)
            with self._app.locked(job):
                checked = self._checked_health(job, ctx, request, deadline)
                if checked is not None:
                    with self._lock:  # the next run still has to look at what was pushed
                        self._pushed[job.name] = self._pushed.get(job.name, frozenset()) | pushed
                    return checked
                options = Options(trigger=request.trigger, pushed=pushed)
                run = JobRun(job, ctx, run_job(job, ctx, deadline, options))
                report = self._reloaded(run, deadline)
                self._remember_unchanged(job, ctx, report, deadline)
            return report
        except SyncdError as error:
            return _failed(job, request, error)
        except Exception as error:  # (a bug in one job must not stop the others, nor the daemon)
            found = unexpected(error)
            if isinstance(found, BugError):
                LOG.exception(
                    "a bug in syncd, met in the job %s; please report it with these lines", job.name
                )
            return _failed(job, request, found)

    def _checked_health(
        self, job: Job, ctx: RunContext, request: Request, deadline: Deadline
    ) -> RunReport | NextCheck | None:
        """Go on with the job's health window; None where none is open."""
        window = window_report(job, ctx.store.state(job.name), request.trigger)
        found = continue_check(JobRun(job, ctx, window), deadline)
        if isinstance(found, NextCheck):
            self._windows.goes_on(job.name, request.trigger)
            return found
        if found is not None:
            self._windows.goes_on(job.name, request.trigger)
        waiting = self._windows.end(job.name)
        if found is not None and waiting is not None:
            self._queue.enqueue(job.name, waiting)
        return found

    def _reloaded(self, run: JobRun, deadline: Deadline) -> RunReport:
        """Run the job's pending reload, with those of other jobs that `reload:` has put off for the
        same command; return the job's report.
        """
        with ExitStack() as locks:
            others = self._joined(run, locks) if run.job.reload.is_given else []
            reports = run_reload([run, *others], deadline, waits=False)
            for other, report in zip(others, reports[1:], strict=True):
                if report.checking and not report.reload_pending:
                    self._queue.enqueue(other.job.name, Trigger.RETRY)
                if report.reload_at is None:
                    self._log_finished(report)
        return reports[0]

    def _joined(self, run: JobRun, locks: ExitStack) -> list[JobRun]:
        """Lock the other jobs whose pending reload is the same command, as far as they are free."""
        if run.ctx is None or not run.report.reload_pending:
            return []
        found, key = [], reload_state.shared_key(run.job)
        for other in self._app.config.jobs.values():
            if other.name == run.job.name or reload_state.shared_key(other) != key:
                continue
            if not self._app.store.state(other.name).reload_is_deferred:
                continue
            with suppress(SyncdError):  # it runs now, and sees to its own reload
                locks.enter_context(self._app.locked(other))
                state = self._app.store.state(other.name)
                report = window_report(other, state, Trigger.RETRY)
                checking = state.pending_health is not None
                report = replace(report, checking=checking, started_at=self._app.clock.now())
                found.append(JobRun(other, self._app.run_context(other), report))
        return found

    def _forget_unchanged(self, job: str) -> None:
        """Forget what was remembered of a job, because a full run follows."""
        with self._lock:
            self._unchanged.pop(job, None)
            self._checked.pop(job, None)

    def _remember_unchanged(
        self, job: Job, ctx: RunContext, report: RunReport, deadline: Deadline
    ) -> None:
        """Remember what a run without changes looked at, as far as memory allows.

        The next runs compare with it instead of reading everything.
        """
        if report.status is RunStatus.UNCHANGED and report.error is None and not report.changes:
            with self._lock:
                free = MAX_KNOWN_FILES - sum(
                    known.state.files for known in self._unchanged.values()
                )
            found = unchanged_state(job, ctx, deadline) if report.files <= free else None
            if found is not None:
                with self._lock:
                    self._unchanged[job.name] = found

    def save_checked(self) -> None:
        """Save when the unchanged jobs were last checked. Raises StoreError; then it is tried again
        later.
        """
        with self._lock:
            jobs = dict(self._checked)
        self._app.store.mark_checked(jobs)
        with self._lock:
            for name, told in jobs.items():
                if self._checked.get(name) == told:
                    del self._checked[name]

    def _after_run(self, report: RunReport) -> None:
        if isinstance(report.error, LockedError):
            times = self._locked[report.job] = self._locked.get(report.job, 0) + 1
            pause = min(MAX_LOCKED_RETRY_SECONDS, LOCKED_RETRY_SECONDS * 2 ** min(times - 1, 10))
            self._queue.enqueue(
                report.job, Trigger.RETRY, due_at=self._app.clock.monotonic() + pause
            )
        else:
            self._locked.pop(report.job, None)
        self._log_finished(report)

    def _log_finished(self, report: RunReport) -> None:
        """Note the end of a run for status and log."""
        try:
            self._job_status.run_finished(report)
            self._run_log.log_run(report, secrets.token_hex(6))
        except Exception:
            LOG.exception(
                "a bug in syncd, met after the run of %s; please report it with these lines",
                report.job,
            )

    def _shared_responses(self, job: Job, tick: float) -> SingleFlight:
        """Return the cache of responses that all runs of this tick and identity share.

        A push has a tick of its own, so it never gets an answer from before the push.
        """
        clock = self._app.clock
        offset = clock.now().timestamp() - clock.monotonic()
        with self._lock:
            before, found = self._shared.get((job.identity, tick), (offset, None))
            if (
                found is None or abs(offset - before) > CLOCK_STEP_SECONDS
            ):  # a clock that was set back comes to the same tick again, hours later
                found = SingleFlight()
                self._shared[job.identity, tick] = (offset, found)
            while len(self._shared) > MAX_TICKS:
                self._shared.popitem(last=False)
            return found

    def forget_old_ticks(self, before: float) -> None:
        """Drop the shared responses of ticks before this time."""
        with self._lock, suppress(KeyError):
            for key in [key for key in self._shared if key[1] < before]:
                del self._shared[key]

    def active_jobs(self) -> list[str]:
        """Return the jobs whose run is in progress."""
        return sorted(one.job for one in list(self._active.values()))

    def stuck_jobs(self) -> list[str]:
        """Return the jobs whose run should have ended by its own limits."""
        now = self._app.clock.monotonic()
        return sorted(one.job for one in list(self._active.values()) if now > one.ends_by)


def _longest_seconds(job: Job) -> float:
    """Return how long a run or a health check of the job may take by its own limits."""
    hooks = sum(hook is not None for hook in (job.validate, job.on_change, job.on_change))
    check = 0.0 if job.health is None else job.health.timeout_seconds
    return job.timeout_seconds + job.hook_timeout_seconds * hooks + check


def _failed(job: Job, request: Request, error: SyncdError) -> RunReport:
    return RunReport(
        job.name,
        RunStatus.FAILED,
        job.repo,
        job.ref,
        None,
        None,
        error=error,
        trigger=request.trigger,
    )


__all__ = ["WorkerRunner"]
