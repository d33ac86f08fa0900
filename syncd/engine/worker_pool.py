"""Run jobs side by side, a limited number at once.

A job that only waits for a rate limit gives its place to another job. Meanwhile only jobs are
started that spend another limit: a job of the same limit would wait too. So there are never more
threads than places and waiting jobs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from syncd.models import Job

Work = Callable[
    [Job, Callable[[bool], None]], None
]  # the job, and what to call: True when it begins to wait for a limit, False when it goes on


class WorkerPool:
    """A pool for one round of jobs. A thread takes the next job as long as there is one to start.

    `limit_of` returns which hourly limit a job spends.
    """

    def __init__(
        self, at_once: int, limit_of: Callable[[Job], Hashable] = lambda job: job.identity
    ) -> None:
        self._limit_of = limit_of
        self._free = at_once
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._waiting_by_limit: Counter[Hashable] = Counter()  # limit -> how many of its jobs
        self._running = 0

    def run_all(self, jobs: Sequence[Job], work: Work) -> None:
        """Do the work of every job, and return when all of it is done.

        `work` may not raise: it keeps what becomes of a job itself.
        """
        with self._changed:
            self._waiting = list(jobs)
            while self._waiting or self._running:
                job = self._next_job()
                if job is None:
                    self._changed.wait()
                else:
                    threading.Thread(target=self._work, args=(job, work), name="syncd-job").start()

    def _next_job(self) -> Job | None:
        """Return the next job, counted as running.

        None when there is no free place, or when every job would only wait for a limit.
        """
        if self._free <= 0:
            return None
        for index, job in enumerate(self._waiting):
            if not self._waiting_by_limit[self._limit_of(job)]:
                self._free -= 1
                self._running += 1
                return self._waiting.pop(index)
        return None

    def _work(self, first: Job, work: Work) -> None:
        job: Job | None = first
        while job is not None:
            limit = self._limit_of(job)
            try:
                work(job, partial(self._set_waiting, limit))
            finally:
                with self._changed:
                    self._free += 1
                    self._running -= 1
                    self._changed.notify()
            with self._changed:
                job = self._next_job()

    def _set_waiting(self, limit: Hashable, waits: bool) -> None:
        """Free the place of a job that waits for this limit, or take it again.

        Then more jobs may run than there are places, until one is done.
        """
        with self._changed:
            delta = 1 if waits else -1
            self._free += delta
            self._waiting_by_limit[limit] += delta
            self._changed.notify()


__all__ = ["Work", "WorkerPool"]
