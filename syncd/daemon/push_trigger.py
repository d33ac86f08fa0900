"""Start runs for a push: now, and up to twice more while GitHub still answers as before the push.

A repeated delivery starts no run. A flood of deliveries starts a run of each job every few seconds
at most; for a failing job, every minute or less. Rate limits are respected by the queue. A push is
only a reason to ask GitHub: its commit is compared with the answer and used for nothing else.

Sources: GitHub's answers may lag behind its deliveries for some seconds; a delivery may come late,
twice, out of order or not at all. So the schedule remains what finds every change.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Clock
from syncd.config.model import Config
from syncd.daemon.backoff import push_interval_seconds
from syncd.daemon.job_status import JobStatus
from syncd.daemon.queue import Queue
from syncd.errors import LockedError, NotFoundError, StoppedError, StoreError
from syncd.github.webhook import Push, PushOutcome, can_start_on_push
from syncd.models import CommitSummary, RunReport, RunStatus, Trigger
from syncd.status import WebhookStats
from syncd.store.facts import DELIVERY_MISSED, PUSH_UNMATCHED, Staleness

LOG = logging.getLogger("syncd.daemon")
RECHECK_SECONDS = (
    2.0,
    8.0,
)  # after a run that found nothing new though something was pushed; then the next turn finds it
# docs "Get a commit": an empty repository, a ref that does not resolve; a path that is missing is
# no lag
MISSING_REF_STATUSES = (
    409,
    422,
)
DELIVERY_TTL_SECONDS = 3600.0
MAX_DELIVERIES = 4096  # deliveries
MAX_UNMATCHED = 20  # repositories
MAX_SUMMARIES = 256  # commits that no run has found yet


class Expected(Struct, frozen=True):
    """A run of the job that starts at `since` or later should find `commit`.

    `tick` is as in the queue; `rechecks` counts the runs that did not find it.
    """

    commit: str
    since: datetime
    tick: float
    rechecks: int = 0


class Found(Struct, frozen=True):
    """A commit that a scheduled run found, and that no delivery has announced until then."""

    commit: str
    at: datetime


class PushTrigger:
    """Turns deliveries into requests for runs. Safe to use from many threads.

    `jobs_for` returns the jobs to start for a push, and `paused` those of them that are paused or
    held; `heard` are the stored statistics of the last daemon. `announced` returns whether GitHub
    should deliver the pushes of a job. `save_summary` saves who made a commit.
    """

    def __init__(
        self,
        clock: Clock,
        queue: Queue,
        jobs_for: Callable[[Push], Sequence[str]],
        heard: WebhookStats,
        paused: Callable[[Sequence[str]], Collection[str]] = lambda names: (),
        announced: Callable[[str], bool] = lambda job: False,
        save_summary: Callable[[str, CommitSummary, datetime], None] = lambda *_: None,
    ) -> None:
        self._clock, self._queue, self._jobs_for = clock, queue, jobs_for
        self._paused, self._announced, self._save_summary = paused, announced, save_summary
        self._summaries: OrderedDict[str, CommitSummary] = OrderedDict()  # of pushed commits
        self._found: dict[str, Found | None] = {}  # of each job that has run in this process
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, float] = (
            OrderedDict()
        )  # of deliveries, with the time of their first ring
        self._last_due: dict[str, float] = {}  # when the last run that a push began was to begin
        self._expected: dict[str, Expected] = {}
        self._stats = heard

    def push_received(self, push: Push, delivery_key: str | None, what: str) -> PushOutcome | None:
        """Start the jobs that follow the pushed ref, and return how many there are.

        Paused jobs are only counted: the first run after their pause finds the push. The others
        start at once, or as soon as `push_interval_seconds` allows. Returns None when the
        delivery with this key came before within the hour. `what` describes the push.
        """
        with self._lock:
            if delivery_key is not None and self._is_duplicate(delivery_key):
                self._count("repeated")
                return None
            following = self._jobs_for(push)
            if following and push.commit is not None and push.summary is not None:
                self._summaries[push.commit] = push.summary
                while len(self._summaries) > MAX_SUMMARIES:
                    self._summaries.popitem(last=False)
            paused = self._paused(following)
            names = [
                name
                for name in following
                if name not in paused and self._enqueue(name, push.commit, self._clock.now())
            ]
            if delivery_key is not None:
                self._seen[delivery_key] = self._clock.monotonic()
            self._note_delivery(following, push)
            if following or push.deleted:
                self._count("asked" if names else "ignored", what)
            else:
                self._count_unmatched(push, what)
            return PushOutcome(len(names), len(paused))

    def deliveries_missed(self, count: int, jobs: Sequence[str]) -> list[str]:
        """Start the jobs of pushes that did not arrive, and return which of them start.

        Paused jobs do not, as at a push. `count` is the number of these pushes.
        """
        with self._lock:
            paused = self._paused(jobs)
            started = [
                name
                for name in jobs
                if name not in paused and self._enqueue(name, None, self._clock.now())
            ]
            counts = dict(self._stats.counts)
            counts["missed"] = counts.get("missed", 0) + count
            self._stats = replace(self._stats, counts=counts)
            return started

    def ignored(self, what: str) -> None:
        """Count a signed delivery that starts nothing."""
        with self._lock:
            self._count("ignored", what)

    def rejected(self, why: str | None) -> None:
        """Count a refused delivery. `why` is None when it was probably not GitHub's."""
        with self._lock:
            self._count("refused", why)

    def stats(self) -> WebhookStats:
        """Return the statistics of deliveries."""
        with self._lock:
            return self._stats

    def _is_duplicate(self, delivery_key: str) -> bool:
        oldest = self._clock.monotonic() - DELIVERY_TTL_SECONDS
        while self._seen and (
            len(self._seen) >= MAX_DELIVERIES or next(iter(self._seen.values())) < oldest
        ):
            self._seen.popitem(last=False)
        return delivery_key in self._seen

    def _enqueue(self, job: str, commit: str | None, since: datetime) -> bool:
        last, now, tick = self._last_due.get(job), self._clock.monotonic(), since.timestamp()
        due = (
            now
            if last is None
            else last
            if last > now
            else max(now, last + push_interval_seconds(self._queue.backoff_of(job)))
        )
        if not self._queue.enqueue(job, Trigger.PUSH, tick, due):
            return False
        self._last_due[job] = due
        if commit is not None:
            self._expected[job] = Expected(commit, since, tick)
        else:
            self._expected.pop(job, None)
        return True

    def _count(self, outcome: str, what: str | None = None) -> None:
        heard, now = self._stats, self._clock.now()
        counts = {**heard.counts, outcome: heard.counts.get(outcome, 0) + 1}
        if outcome == "refused":
            self._stats = (
                replace(heard, refused_at=now, refused_reason=what, counts=counts)
                if what is not None
                else replace(heard, counts=counts)
            )
        else:
            self._stats = replace(
                heard, last_at=now, last_event=what or heard.last_event, counts=counts
            )

    # --- what makes changes come late -------------------------------------------------------------

    def _count_unmatched(self, push: Push, what: str) -> None:
        """Count a push that no job follows."""
        self._count("unmatched", what)
        now, repo = self._clock.now(), push.repo.lower()
        before = {one.subject: one for one in self._stats.unmatched}
        known = before.pop(repo, None)
        count = 1 if known is None else known.count + 1
        new = Staleness(PUSH_UNMATCHED, repo, push.ref, now, count)
        self._stats = replace(
            self._stats, unmatched=(*list(before.values())[1 - MAX_UNMATCHED :], new)
        )

    def _note_delivery(self, jobs: Sequence[str], push: Push) -> None:
        """Note that deliveries for these jobs arrive, and that the push is followed."""
        repo = push.repo.lower()
        if jobs and any(one.subject == repo for one in self._stats.unmatched):
            others = tuple(one for one in self._stats.unmatched if one.subject != repo)
            self._stats = replace(self._stats, unmatched=others)
        for job in jobs:
            if self._found.get(job) is not None:
                self._found[job] = None
        if any(one.subject in jobs for one in self._stats.missed):
            left = tuple(one for one in self._stats.missed if one.subject not in jobs)
            self._stats = replace(self._stats, missed=left)

    def _note_run(self, report: RunReport) -> None:
        """Note a commit that a scheduled run found unannounced.

        It is missed when no delivery has come until the job's next run: a delivery may be late.
        """
        job, found = report.job, self._found.get(report.job)
        if found is not None:
            new = Staleness(DELIVERY_MISSED, job, found.commit, found.at)
            others = tuple(one for one in self._stats.missed if one.subject != job)
            self._stats = replace(self._stats, missed=(*others, new))
        is_new = report.commit is not None and report.previous not in (None, report.commit)
        is_unannounced = is_new and report.trigger is Trigger.SCHEDULE and job in self._found
        self._found[job] = None
        if is_unannounced and report.commit is not None and self._announced(job):
            self._found[job] = Found(report.commit, self._clock.now())

    # --- looking again ----------------------------------------------------------------------------

    def run_finished(self, report: RunReport, _before: JobStatus) -> None:
        """Run the job again in some seconds, twice at most, if it did not find the pushed
        commit.
        """
        if isinstance(report.error, (LockedError, StoppedError)):
            return  # nothing was asked
        self._note_summary(report)
        with self._lock:
            self._note_run(report)
            expected = self._expected.get(report.job)
            if expected is None or (
                report.started_at is not None and report.started_at < expected.since
            ):
                return  # it began before the push
            if not _missed_push(report, expected.commit) or expected.rechecks == len(
                RECHECK_SECONDS
            ):
                del self._expected[report.job]
                return
            pause = RECHECK_SECONDS[expected.rechecks]
            self._expected[report.job] = replace(
                expected,
                since=self._clock.now(),
                tick=expected.tick + pause,
                rechecks=expected.rechecks + 1,
            )
            self._queue.enqueue(
                report.job, Trigger.PUSH, expected.tick + pause, self._clock.monotonic() + pause
            )

    def _note_summary(self, report: RunReport) -> None:
        """Save who made the commit that the run found, if a delivery said so."""
        with self._lock:
            summary = self._summaries.pop(report.commit or "", None)
        if summary is not None and report.commit is not None:
            with suppress(StoreError):  # it is only shown
                self._save_summary(report.commit, summary, self._clock.now())

    def forget(self, job: str) -> None:
        """Forget a job that is not configured any more."""
        with self._lock:
            self._last_due.pop(job, None)
            self._expected.pop(job, None)
            self._found.pop(job, None)
            left = tuple(one for one in self._stats.missed if one.subject != job)
            self._stats = replace(self._stats, missed=left)


def is_announced(config: Config, job: str) -> bool:
    """Return whether the webhook should get the pushes of the job."""
    web, found = config.web, config.jobs.get(job)
    has_webhook = web is not None and web.webhook is not None
    return has_webhook and found is not None and can_start_on_push(found)


def _missed_push(report: RunReport, commit: str) -> bool:
    """Return whether GitHub answered as before the push: the old head, or no such ref."""
    if isinstance(report.error, NotFoundError):
        return report.error.status in MISSING_REF_STATUSES
    return (
        report.error is None
        and report.status is RunStatus.UNCHANGED
        and report.commit not in (None, commit)
    )


__all__ = ["PushTrigger", "is_announced"]
