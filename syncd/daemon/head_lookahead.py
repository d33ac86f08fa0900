"""Which heads the daemon asks for together: those of the jobs that are due now or in a moment.

Jobs of different repositories are due at different moments, spread over their interval. So a batch
reaches ahead: by a fifth of a job's interval, and some seconds at most.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from msgspec import Struct, field

from syncd.daemon.context import DaemonContext
from syncd.daemon.head_polls import Candidate, HeadPolls, Key, Limit, key_of
from syncd.daemon.missing_heads import MissingHeads
from syncd.github.request_cache import SingleFlight
from syncd.models import Job, Trigger
from syncd.ports import Head

LOOKAHEAD_SECONDS = 12.0
LOOKAHEAD_SHARE = 0.2  # of a job's interval
MAX_HEADS_AT_ONCE = 2000
# How long a decision counts. It is shorter than an interval, so that each run has one of its own.
DECISION_SECONDS = 30.0
DECISION_SHARE = 0.5  # of a job's interval


class _Decision(Struct, frozen=True):
    """How the head of one key is asked for: it is confirmed, or None leaves it to the job's run."""

    head: Head | None
    until: float  # monotonic


class _Group(Struct):
    """The decisions about the heads of one limit."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decided: dict[Key, _Decision] = field(default_factory=dict)


class HeadLookahead:
    """Confirms heads before their jobs run. Safe to use from many threads."""

    def __init__(self, parts: DaemonContext) -> None:
        self._parts, self._polls = parts, HeadPolls(parts.app)
        self._missing = MissingHeads(parts, self._polls)
        self._lock = threading.Lock()
        self._groups: dict[Limit, _Group] = {}

    def prepare(self, job: Job, trigger: Trigger, shared: SingleFlight) -> None:
        """Note in `shared` that the job's head is unchanged, or missing, as GraphQL confirmed.

        Runs of pushes and operators ask for themselves. Raises nothing.
        """
        limit, key = self._polls.limit_of(job), key_of(job)
        if limit is None or trigger.interactive or key in shared.unchanged_heads:
            return
        self._missing.prepare(job, limit, shared)
        if key in shared.missing_heads:
            return
        if not self._polls.may_help(limit, job, self._parts.queue.pending_count()):
            return
        with self._lock:
            group = self._groups.setdefault(limit, _Group())
        with group.lock:
            now = self._parts.clock.monotonic()
            found = group.decided.get(key)
            if found is None or found.until <= now:
                self._decide(group, limit, job, now)
                found = group.decided.get(key)
        if found is not None and found.head is not None:
            shared.unchanged_heads[key] = found.head

    def _decide(self, group: _Group, limit: Limit, job: Job, now: float) -> None:
        """Decide how the job's head and those of the next jobs are asked for."""
        group.decided = {key: one for key, one in group.decided.items() if one.until > now}
        candidates: dict[Key, Candidate] = {}
        chosen = {key_of(job): job}
        for other in self._next_jobs(limit):
            if len(chosen) < MAX_HEADS_AT_ONCE and key_of(other) not in group.decided:
                chosen.setdefault(key_of(other), other)
        for key, one in chosen.items():
            known = self._parts.runner.known_head(one)
            if known is not None:
                candidates[key] = Candidate(one, known)
        confirmed = self._polls.confirm(limit, candidates.values())
        for key, one in chosen.items():
            until = now + min(DECISION_SECONDS, DECISION_SHARE * (one.every_seconds or 60.0))
            group.decided[key] = _Decision(confirmed.get(key), until)

    def _next_jobs(self, limit: Limit) -> Iterator[Job]:
        """Yield the jobs of the limit that wait for a worker, and those that are due soon."""
        parts, jobs = self._parts, self._parts.app.config.jobs
        held = parts.queue.active_backoffs()
        due = dict.fromkeys(parts.queue.pending(), 0.0)
        due |= dict(parts.scheduler.due_within(LOOKAHEAD_SECONDS))
        for name, seconds in due.items():
            job = jobs.get(name)
            if job is None or name in held or self._polls.limit_of(job) != limit:
                continue
            if seconds <= LOOKAHEAD_SHARE * (job.every_seconds or 60.0):
                yield job


__all__ = ["HeadLookahead"]
