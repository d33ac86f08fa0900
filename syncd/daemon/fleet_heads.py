"""Which of the jobs that a controller claimed together have nothing new.

Where an installation has more repositories than REST can ask for, a controller claims many jobs at
once, and asks for their heads with GraphQL. A job whose head is confirmed, and published, is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from syncd.daemon.fleet_publisher import is_published
from syncd.daemon.head_polls import Candidate, HeadPolls, Key, Limit
from syncd.fleet.leases import Lease
from syncd.models import Job
from syncd.wiring import AppContext

MAX_CLAIMS = 2000
BATCH_SECONDS = 10.0  # between two claims, so that a batch has enough jobs


class FleetHeads:
    """Confirms the heads of claimed jobs."""

    def __init__(self, app: AppContext) -> None:
        self._polls = HeadPolls(app)

    def in_batches(self) -> bool:
        """Return whether many jobs are to be claimed at once."""
        return bool(self._polls.busy_limits())

    def unchanged(
        self, found: Collection[Lease], jobs: Mapping[str, Job], lists_anew: Collection[str]
    ) -> set[str]:
        """Return the claimed jobs whose head is as published. Raises nothing."""
        by_limit: dict[Limit, dict[Key, Candidate]] = {}
        busy = self._polls.busy_limits()
        for lease in found:
            job = jobs[lease.job]
            limit = self._polls.limit_of(job)
            if lease.head is not None and limit in busy:
                one = Candidate(job, lease.head)
                by_limit.setdefault(limit, {})[one.key] = one
        done: set[str] = set()
        for limit, candidates in by_limit.items():
            confirmed = self._polls.confirm(limit, candidates.values())
            for lease in found:
                job, head = jobs[lease.job], lease.head
                if head is None or self._polls.limit_of(job) != limit:
                    continue
                known = confirmed.get((job.repo.lower(), job.ref))
                same = known is not None and (known.commit, known.form) == (head.commit, head.form)
                if same and is_published(job, lease, head, lease.job in lists_anew):
                    done.add(lease.job)
        return done


__all__ = ["BATCH_SECONDS", "MAX_CLAIMS", "FleetHeads"]
