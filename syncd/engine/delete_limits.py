"""Judge whether a plan removes more than the limits allow: a wrong ref looks exactly like this.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncd.errors import LimitError
from syncd.models import ActionKind, Job, LedgerRow, Ownership, Plan, WantedFile

# A share of few files says nothing: removals up to this many are allowed under any share.
MIN_DELETE_ALLOWANCE = 10


def delete_limit_error(
    job: Job,
    plan: Plan,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    allow_delete: int | None,
) -> LimitError | None:
    """Return the error of a plan that removes more than `limits` or the caller allow; None else."""
    removals = len(plan.of(ActionKind.REMOVE))
    if not remote and not job.limits.empty and allow_delete is None:
        return LimitError(
            f"the job's paths hold no file at this commit ({removals} would be removed); "
            "nothing was changed",
            id="limit/empty-set",
            hint="check ref:, paths: and include:; to agree once: "
            f"syncd sync {job.name} --allow-delete {removals}; for good: limits: {{empty: true}}",
        )
    tracked = sum(row.ownership is not Ownership.FOREIGN for row in recorded.values())
    allowed, rule = _allowed_removals(job, tracked, allow_delete)
    if removals > allowed:
        return LimitError(
            f"{removals} of {tracked} files would be removed, more than {rule} allows; "
            "nothing was changed",
            id="limit/too-many-removals",
            hint=f"look at: syncd plan {job.name}; "
            f"if that is right: syncd sync {job.name} --allow-delete {removals}",
        )
    return None


def _allowed_removals(job: Job, tracked: int, allow_delete: int | None) -> tuple[int, str]:
    """Return how many removals are allowed, and the rule that says so."""
    limits = job.limits
    if allow_delete is not None:
        return allow_delete, f"--allow-delete {allow_delete}"
    if limits.delete_count is not None:
        return limits.delete_count, f"limits.delete: {limits.delete_count}"
    share = limits.delete_share if limits.delete_share is not None else 1.0
    return max(MIN_DELETE_ALLOWANCE, int(share * tracked)), f"limits.delete: {share:.0%}"
