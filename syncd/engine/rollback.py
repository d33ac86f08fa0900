"""PURE: which of the kept sets a rollback means."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.errors import NotFoundError
from syncd.models import Job
from syncd.ports import AppliedSet, JobState

MIN_PREFIX_CHARS = 4


def rollback_target(
    job: Job, sets: Sequence[AppliedSet], state: JobState, to: str | None
) -> AppliedSet:
    """The set of the commit that begins with `to`; without `to` the one that stood before the present one, so that each call goes one
    further back. `sets` are newest first. Raises NotFoundError naming what is kept.
    """
    kept = (
        f"kept are: {', '.join(one.commit[:12] for one in sets)}"
        if sets
        else "no set of it is kept yet"
    )
    if to is not None:
        found = [
            one for one in sets if len(to) >= MIN_PREFIX_CHARS and one.commit.startswith(to.lower())
        ]
        if len({one.commit for one in found}) != 1:
            what = "names more than one set" if found else "is not kept for a rollback"
            raise NotFoundError(
                f"commit {to} of job {job.name} {what}",
                hint=f"{kept}; for any other commit, revert it in the repository or set ref:",
            )
        return found[0]
    place = next(
        (place for place, one in enumerate(sets) if one.commit == state.applied_commit), -1
    )
    if place + 1 >= len(sets):
        raise NotFoundError(
            f"there is no set of job {job.name} before the present one to go back to", hint=kept
        )
    return sets[place + 1]
