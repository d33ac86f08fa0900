"""What is missing at GitHub stays cheap: one sweep by GraphQL answers for many broken jobs.

A job whose repository or ref is missing is tried again by its back-off, and each try is charged.
Where many are missing, one request asks for a hundred of them. What it finds missing still fails
the tries of the next minutes with the error that REST gave; the job of what is back runs at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from msgspec import Struct, field

from syncd.daemon.context import DaemonContext
from syncd.daemon.head_polls import HeadPolls, Key, Limit, key_of
from syncd.daemon.job_status import JobStatus
from syncd.errors import SyncdError
from syncd.github.graphql_heads import MissingQuestion
from syncd.github.poll_choice import HEADS_PER_QUERY, MIN_HEADS
from syncd.github.request_cache import SingleFlight
from syncd.models import Job, RunReport, Trigger

REPOSITORY_MISSING, REF_MISSING = "auth/repository-not-visible", "not_found/ref-missing"
SWEEP_SECONDS = 900.0
# A sweep counts so long for each of its queries: 50 points an hour are 1 % of the least limit.
SECONDS_PER_QUERY = 72.0


class _Sweep(Struct):
    """What is missing of one limit, by the last sweep, and when the next one may be."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_at: float = 0.0  # monotonic
    missing: frozenset[Key] = frozenset()


class MissingHeads:
    """The jobs whose repository or ref was missing when they last ran. For many threads."""

    def __init__(self, parts: DaemonContext, polls: HeadPolls) -> None:
        self._parts, self._polls = parts, polls
        self._lock = threading.Lock()
        self._errors: dict[str, SyncdError] = {}
        self._sweeps: dict[Limit, _Sweep] = {}
        parts.job_status.subscribe(self._run_finished)

    def prepare(self, job: Job, limit: Limit, shared: SingleFlight) -> None:
        """Note in `shared` that what the job asks for is missing still. Raises nothing."""
        error = self._errors.get(job.name)
        if error is None:
            return
        others = self._missing_jobs(limit)
        if len({key_of(one) for one in others.values()}) < MIN_HEADS:
            return
        with self._lock:
            sweep = self._sweeps.setdefault(limit, _Sweep())
        with sweep.lock:
            if self._parts.clock.monotonic() >= sweep.next_at:
                self._sweep(sweep, limit, others, job)
            if key_of(job) in sweep.missing:
                shared.missing_heads[key_of(job)] = error

    def _run_finished(self, report: RunReport, _before: JobStatus) -> None:
        error = report.error
        with self._lock:
            if error is not None and error.id in (REPOSITORY_MISSING, REF_MISSING):
                self._errors[report.job] = error
            else:
                self._errors.pop(report.job, None)

    def _missing_jobs(self, limit: Limit) -> dict[str, Job]:
        jobs = self._parts.app.config.jobs
        with self._lock:
            names = list(self._errors)
        known = {name: jobs[name] for name in names if name in jobs}
        return {name: job for name, job in known.items() if self._polls.limit_of(job) == limit}

    def _sweep(self, sweep: _Sweep, limit: Limit, jobs: Mapping[str, Job], first: Job) -> None:
        """Ask for everything that is missing, and start the jobs of what is back."""
        asked: dict[Key, MissingQuestion] = {}
        for name, job in jobs.items():
            error = self._errors.get(name)
            is_repository = error is not None and error.id == REPOSITORY_MISSING
            question = MissingQuestion(job.repo, job.ref, is_repository)
            if question.is_fit:
                asked[key_of(job)] = question
        found = self._polls.still_missing(limit, list(asked.values()), first) if asked else {}
        answers = {key: found.get(question) for key, question in asked.items()}
        sweep.missing = frozenset(key for key, missing in answers.items() if missing)
        queries = -(-len(asked) // HEADS_PER_QUERY)
        wait = max(SWEEP_SECONDS, SECONDS_PER_QUERY * queries)
        sweep.next_at = self._parts.clock.monotonic() + wait
        back = [
            name
            for name, job in jobs.items()
            if answers.get(key_of(job)) is False and name != first.name
        ]
        self._parts.queue.clear_backoff(back)
        for name in back:
            self._parts.queue.enqueue(name, Trigger.RETRY)


__all__ = ["MissingHeads"]
