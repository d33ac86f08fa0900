"""Which of the kept sets a rollback means.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.errors import NotFoundError
from syncd.models import Job
from syncd.ports import AppliedSet, JobState

MIN_PREFIX_CHARS = 4


def rollback_target(
    job: Job, sets: Sequence[AppliedSet], state: JobState, to: str | None
) -> AppliedSet:
    """Return the set of the commit that begins with `to`; without `to`, the set before the present
    one.

    So each call without `to` goes one set further back. `sets` are newest first. Raises
    NotFoundError, which names the sets that are kept.
    """
    if to is not None:
        return _set_named(job, sets, to)
    place = next(
        (place for place, one in enumerate(sets) if one.commit == state.applied_commit), -1
    )
    if place + 1 >= len(sets):
        raise NotFoundError(
            f"there is no set of job {job.name} before the present one to go back to",
            id="not_found/no-earlier-set",
            hint=_kept(sets),
        )
    return sets[place + 1]


def _set_named(job: Job, sets: Sequence[AppliedSet], to: str) -> AppliedSet:
    found = [
        one for one in sets if len(to) >= MIN_PREFIX_CHARS and one.commit.startswith(to.lower())
    ]
    if len({one.commit for one in found}) == 1:
        return found[0]
    problem = "names more than one set" if found else "is not kept for a rollback"
    raise NotFoundError(
        f"commit {to} of job {job.name} {problem}",
        id="not_found/ambiguous-set" if found else "not_found/set-not-kept",
        hint=f"{_kept(sets)}; for any other commit, revert it in the repository or set ref:",
    )


def _kept(sets: Sequence[AppliedSet]) -> str:
    if not sets:
        return "no set of it is kept yet"
    return f"kept are: {', '.join(one.commit[:12] for one in sets)}"
