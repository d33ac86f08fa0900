"""What makes changes come late though no run fails, in words. Pure: no I/O.

A repository has another name now, deliveries do not arrive, or a fleet's database is away.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from syncd.clock import rfc3339
from syncd.identities import FLEET
from syncd.models import Job
from syncd.status.model import JobWarning, WebhookStats
from syncd.status.render import ago
from syncd.store.facts import FLEET_AWAY, REPOSITORY_MOVED, Staleness

WARNINGS = ("repository_moved", "delivery_missed", "fleet_away")
MOVED_HINT = "write its present name into repo:, which syncd doctor says"
MISSED_HINT = "look at Recent Deliveries of the webhook at GitHub, and at what is in front of syncd"
AWAY_HINT = "syncd repairs drift meanwhile, and tries again; syncd doctor asks the database"
UNMATCHED_HINT = "if a job should have started, compare its repo:, ref: and on_push:"


def warnings_of(
    job: Job, facts: Iterable[Staleness], webhook: WebhookStats | None
) -> tuple[JobWarning, ...]:
    """Return why the changes of the job come late, or may."""
    place = f"{job.identity}/{job.repo}".lower()
    found = [
        JobWarning(REPOSITORY_MOVED, f"{job.repo} was renamed or moved at GitHub", MOVED_HINT)
        for one in facts
        if one.reason == REPOSITORY_MOVED and one.subject.lower() == place
    ]
    if job.identity == FLEET:
        found += [_away_warning(one) for one in facts if one.reason == FLEET_AWAY]
    for one in () if webhook is None else webhook.missed:
        if one.subject == job.name:
            text = f"no delivery announced commit {one.detail[:7]}; a scheduled run found it"
            found.append(JobWarning(one.reason, text, MISSED_HINT))
    return tuple(found)


def _away_warning(fact: Staleness) -> JobWarning:
    text = f"the fleet's database is away since {rfc3339(fact.since)}: {fact.detail}"
    return JobWarning(FLEET_AWAY, text, AWAY_HINT)


def unmatched_line(stats: WebhookStats, now: datetime) -> str | None:
    """Return how many pushes no job follows, and the last one; None without any."""
    if not stats.unmatched:
        return None
    last, count = stats.unmatched[-1], sum(one.count for one in stats.unmatched)
    pushes = "1 push matched" if count == 1 else f"{count} pushes matched"
    where = f"{last.detail} in {last.subject}"
    return f"{pushes} no job, the last {ago(last.since, now)}: {where}"


__all__ = ["UNMATCHED_HINT", "WARNINGS", "unmatched_line", "warnings_of"]
