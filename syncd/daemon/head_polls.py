"""Ask for many heads of one installation at once, where that is cheaper or sooner than one by one.

The choice is a pure function (github/poll_choice.py); here are its inputs, and what its answer
leads to. A head that GraphQL confirmed saves its job's request. All others are asked for by their
jobs as ever, so a failure here costs nothing but time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Hashable, Sequence
from math import ceil
from typing import TypeVar

from msgspec import Struct, field

from syncd.config.model import Config
from syncd.deadline import Deadline
from syncd.errors import RateLimitedError, StoppedError, SyncdError
from syncd.github.graphql_heads import HeadQuestion, MissingQuestion
from syncd.github.poll_choice import (
    HEADS_PER_QUERY,
    REST_POLLS_PER_MINUTE,
    PollDemand,
    graphql_heads,
)
from syncd.identities import AnonymousIdentity, FleetIdentity
from syncd.models import Job
from syncd.ports import Head
from syncd.ref_names import is_check_due
from syncd.schedule import schedules_of
from syncd.wiring import AppContext

LOG = logging.getLogger("syncd.daemon")
TIMEOUT_SECONDS = 30.0
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 120.0, 3600.0
UNLIKELY_NOT_MODIFIED = 0.5  # below this share of 304, even few heads may be cheaper by GraphQL

Q = TypeVar("Q", HeadQuestion, MissingQuestion)
Key = tuple[str, str | None]  # repository in lower case, ref: jobs with one key share an answer
Limit = tuple[str, str | None]  # identity, and the account of an App's installation


class Candidate(Struct, frozen=True):
    """A job that is about to ask GitHub for a head, and the head that it knows."""

    job: Job
    known: Head

    @property
    def key(self) -> Key:
        """The question of the job."""
        return key_of(self.job)


def key_of(job: Job) -> Key:
    """Return what is equal for jobs of one limit that share an answer about a head."""
    return job.repo.lower(), job.ref


class _Pause(Struct):
    """GraphQL is not used before a monotonic time, after so many failures in a row."""

    failures: int = 0
    until: float = 0.0


class _Rates(Struct):
    """How many heads a minute each limit has to ask for, by this configuration."""

    config: Config | None = None
    by_limit: dict[Limit, float] = field(default_factory=dict)


class HeadPolls:
    """The polls of an application's identities. Safe to use from many threads."""

    def __init__(self, app: AppContext) -> None:
        self._app, self._lock = app, threading.Lock()
        self._rates = _Rates()
        self._pauses: dict[Limit, _Pause] = {}

    def limit_of(self, job: Job) -> Limit | None:
        """Return whose points the job's requests spend; None where GraphQL can't be asked.

        GraphQL needs a token.
        """
        identity = self._app.config.identities.get(job.identity)
        if identity is None or isinstance(identity, (AnonymousIdentity, FleetIdentity)):
            return None
        return self._app.rate_limit_key(job)

    def may_help(self, limit: Limit, job: Job, waiting: int) -> bool:
        """Return whether GraphQL may be the better way, with so many jobs due at once.

        On a machine with few repositories it never is.
        """
        if self._is_paused(limit):
            return False
        if max(self._heads_per_minute(limit), waiting) > REST_POLLS_PER_MINUTE:
            return True
        rest, _ = self._app.rate_limits_of(job)
        return rest.averages()[1] < UNLIKELY_NOT_MODIFIED

    def busy_limits(self) -> frozenset[Limit]:
        """Return the limits for which GraphQL may be the better way, whatever is due now."""
        self._heads_per_minute(("", None))  # of this configuration
        with self._lock:
            rates = dict(self._rates.by_limit)
        return frozenset(
            limit
            for limit, rate in rates.items()
            if rate > REST_POLLS_PER_MINUTE and not self._is_paused(limit)
        )

    def confirm(self, limit: Limit, candidates: Collection[Candidate]) -> dict[Key, Head]:
        """Return the heads that GraphQL confirmed, of those that it was chosen for.

        All candidates are of one limit, each key once. Raises nothing.
        """
        now = self._app.clock.now().timestamp()
        numbers = self._app.connections.repository_numbers()
        fit = []
        for one in candidates:
            job, known = one.job, one.known
            number = numbers.get((job.identity, job.repo.lower()))
            question = HeadQuestion(job.repo, job.ref, known, number)
            if question.is_fit and not is_check_due(job.ref, known.checked_at, now):
                fit.append(question)
        if not fit:
            return {}
        job = next(iter(candidates)).job
        batches = self._batches(fit, job)
        per_query = len(fit) // max(1, len(batches))
        chosen = graphql_heads(self._demand(limit, len(fit), per_query, job)) if batches else 0
        asked = sorted(batches, key=len, reverse=True)[: ceil(chosen / max(1, per_query))]
        return self._asked(limit, asked, job) if asked else {}

    def _batches(self, questions: Sequence[Q], job: Job) -> list[list[Q]]:
        """Return the questions in batches, each for one query with one token.

        A question about a repository with a token of its own is left out.
        """
        groups = self._app.token_groups(job)
        by_token: dict[Hashable, list[Q]] = {}
        for one in questions:
            group = 0 if groups is None else groups.get(one.repo.lower())
            if group is not None:
                by_token.setdefault(group, []).append(one)
        return [
            several[start : start + HEADS_PER_QUERY]
            for several in by_token.values()
            for start in range(0, len(several), HEADS_PER_QUERY)
        ]

    def _demand(self, limit: Limit, heads: int, per_query: int, job: Job) -> PollDemand:
        rest, graphql = self._app.rate_limits_of(job)
        seconds, _ = graphql.averages()
        _, not_modified = rest.averages()
        rate = self._heads_per_minute(limit)
        points = rest.points(), graphql.points()
        return PollDemand(heads, rate, *points, not_modified, seconds, max(1, per_query))

    def _asked(self, limit: Limit, asked: list[list[HeadQuestion]], job: Job) -> dict[Key, Head]:
        try:
            source = self._app.source(self._app.config.identities[job.identity])
            confirmed, error = source.confirm_heads(asked, self._deadline())
        except SyncdError as failed:
            confirmed, error = [], failed
        self._after(limit, error, job)
        return {(one.repo.lower(), one.ref): one.known for one in confirmed}

    def still_missing(
        self, limit: Limit, asked: Sequence[MissingQuestion], job: Job
    ) -> dict[MissingQuestion, bool | None]:
        """Return of each question whether the repository or ref is missing; None for unclear.

        `job` is one of the limit. Raises nothing.
        """
        if self._is_paused(limit):
            return {}
        try:
            source = self._app.source(self._app.config.identities[job.identity])
            found, error = source.still_missing(self._batches(asked, job), self._deadline())
        except SyncdError as failed:
            found, error = {}, failed
        self._after(limit, error, job)
        return found

    def _deadline(self) -> Deadline:
        app = self._app
        deadline = Deadline(app.clock, TIMEOUT_SECONDS, app.stop, interactive=False)
        deadline.may_retry = False  # a query that takes too long costs more points than others
        return deadline

    def _after(self, limit: Limit, error: SyncdError | None, job: Job) -> None:
        if error is None:
            with self._lock:
                self._pauses.pop(limit, None)
        elif not isinstance(error, StoppedError):
            self._pause(limit, error, job)

    def _pause(self, limit: Limit, error: SyncdError, job: Job) -> None:
        """Leave everything to REST for a time, and do as a limit says."""
        if isinstance(error, RateLimitedError):
            rest, graphql = self._app.rate_limits_of(job)
            graphql.block_until("api", error)
            if not error.primary:
                rest.block_until("api", error)
        now = self._app.clock.monotonic()
        with self._lock:
            pause = self._pauses.setdefault(limit, _Pause())
            pause.failures += 1
            wait = MIN_PAUSE_SECONDS * 2.0 ** min(pause.failures - 1, 10)
            pause.until = now + min(MAX_PAUSE_SECONDS, wait)
        level = logging.WARNING if pause.failures == 1 else logging.DEBUG
        LOG.log(level, "syncd asks for each head by itself for a while: %s", error.message)

    def _is_paused(self, limit: Limit) -> bool:
        with self._lock:
            pause = self._pauses.get(limit)
            return pause is not None and self._app.clock.monotonic() < pause.until

    def _heads_per_minute(self, limit: Limit) -> float:
        """Return how many heads a minute are due on average."""
        with self._lock:
            config = self._app.config
            if self._rates.config is not config:
                self._rates = _Rates(config, self._rates_of(config))
            return self._rates.by_limit.get(limit, 0.0)

    def _rates_of(self, config: Config) -> dict[Limit, float]:
        shortest: dict[tuple[Limit, Key], float] = {}
        for job in config.polled_jobs.values():
            limit = self.limit_of(job)
            if limit is not None:
                question, seconds = (limit, key_of(job)), self._interval_seconds(job, config)
                shortest[question] = min(seconds, shortest.get(question, seconds))
        found: dict[Limit, float] = {}
        for (limit, _), seconds in shortest.items():
            found[limit] = found.get(limit, 0.0) + 60.0 / seconds
        return found

    def _interval_seconds(self, job: Job, config: Config) -> float:
        if job.every_seconds is not None:
            return job.every_seconds
        schedule = schedules_of({job.name: job}, config.timezone)[job.name]
        first = schedule.next_after(self._app.clock.now())
        second = schedule.next_after(first) if first is not None else None
        return float("inf") if first is None or second is None else (second - first).total_seconds()


__all__ = ["Candidate", "HeadPolls", "Key", "Limit", "key_of"]
