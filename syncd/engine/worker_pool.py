"""Runs jobs side by side, so many at once; who only waits for GitHub gives its place to another job.

Promises that one limit keeps no other job waiting: while a job rests, jobs that spend other limits are begun first, and none that
spends the same one, because it would only rest too. So there are never more threads than places and resting jobs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from syncd.models import Job

Work = Callable[
    [Job, Callable[[bool], None]], None
]  # the job, and whom to tell when it rests and when it goes on


class WorkerPool:
    """`at_once` places, for one round of jobs. Threads go on with the next job as long as there is one to begin.

    `limit_of` tells whose hourly limit a job spends.
    """

    def __init__(
        self, at_once: int, limit_of: Callable[[Job], Hashable] = lambda job: job.identity
    ) -> None:
        self._limit_of = limit_of
        self._free = at_once
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._resting: Counter[Hashable] = Counter()  # limit -> how many of its jobs
        self._running = 0

    def each(self, jobs: Sequence[Job], work: Work) -> None:
        """`work` of every job is done. It raises nothing: what becomes of a job is the work's own to keep."""
        with self._changed:
            self._waiting = list(jobs)
            while self._waiting or self._running:
                job = self._begin()
                if job is None:
                    self._changed.wait()
                else:
                    threading.Thread(target=self._go_on, args=(job, work), name="syncd-job").start()

    def _begin(self) -> Job | None:
        """The next job, counted as running; None when there is no place, or none that would not only rest."""
        found = (
            next(
                (
                    index
                    for index, job in enumerate(self._waiting)
                    if not self._resting[self._limit_of(job)]
                ),
                None,
            )
            if self._free > 0
            else None
        )
        if found is None:
            return None
        self._free -= 1
        self._running += 1
        return self._waiting.pop(found)

    def _go_on(self, first: Job, work: Work) -> None:
        job: Job | None = first
        while job is not None:
            limit = self._limit_of(job)
            try:
                work(job, partial(self._rests, limit))
            finally:
                with self._changed:
                    self._free += 1
                    self._running -= 1
                    self._changed.notify()
            with self._changed:
                job = self._begin()

    def _rests(self, limit: Hashable, rests: bool) -> None:
        """Its place is free from now on, or taken again; then there may be more at work than places, until one is done."""
        with self._changed:
            more = 1 if rests else -1
            self._free += more
            self._resting[limit] += more
            self._changed.notify()


__all__ = ["Work", "WorkerPool"]
