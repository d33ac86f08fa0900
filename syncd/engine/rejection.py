"""Which commit is not tried again, and why.

`validate`, a failed reload or `require` may reject a commit. The rejection is remembered until the
commit or the job's configuration changes. Pure: no I/O.
"""

from __future__ import annotations

import json
from hashlib import sha256

from msgspec.structs import asdict, replace

from syncd.errors import HookFailedError, SyncdError, UntrustedError
from syncd.models import Job
from syncd.ports import JobState, Rejection

REJECTED_HINT = (
    "it is not tried again; push a commit that passes, or change the job's configuration"
)


def hook_config_digest(job: Job) -> str:
    """Return a digest of the configuration by which hooks judge a commit.

    It changes when, and only when, a hook might judge the same commit differently.
    """
    hooks = {
        name: asdict(hook) if hook else None
        for name, hook in (("validate", job.validate), ("on_change", job.on_change))
    }
    if job.health is not None:  # else a rejection from before there was `health` still holds
        hooks["health"] = asdict(job.health)
    return sha256(
        json.dumps(
            [job.digest, hooks, job.undo_on_failure, job.hook_user, job.hook_timeout_seconds],
            sort_keys=True,
            default=asdict,
        ).encode()
    ).hexdigest()


def under_new_name(job: Job, old: str, state: JobState) -> JobState:
    """Return the state of the job `old`, which is `job` under another name and otherwise as it
    was.
    """
    former = replace(job, name=old)
    if state.applied_config_digest == former.digest:
        state = replace(state, applied_config_digest=job.digest)
    before, after = hook_config_digest(former), hook_config_digest(job)
    rejection, pending = state.rejection, state.pending_health
    if rejection is not None and rejection.config_digest == before:
        rejection = replace(rejection, config_digest=after)
    if pending is not None and pending.config_digest == before:
        pending = replace(pending, config_digest=after)
    return replace(state, rejection=rejection, pending_health=pending)


def judged_by(job: Job, signers: str = "") -> str:
    """Return a digest of everything by which a commit is judged.

    `signers` is the digest of the file of allowed signers; empty where the job has none.
    """
    digest = hook_config_digest(job)
    return sha256(f"{digest} {signers}".encode()).hexdigest() if signers else digest


def known_rejection(
    job: Job, state: JobState, commit: str, signers: str = ""
) -> HookFailedError | UntrustedError | None:
    """Return why the commit was rejected before; None when it is to be tried.

    `signers`: see `judged_by`.
    """
    known = state.rejection
    if known is None or known.commit != commit:
        return None
    if known.config_digest != judged_by(job, signers if known.by_policy else ""):
        return None
    if known.by_policy:
        return UntrustedError(
            known.reason or f"commit {commit[:7]} was refused",
            commit=commit,
            id="limit/commit-refused",
            hint=untrusted_hint(job, commit),
        )
    return HookFailedError(
        known.reason or f"commit {commit[:7]} was rejected",
        rejected=True,
        commit=commit,
        id="hook/commit-rejected",
        hint=REJECTED_HINT,
    )


def untrusted_hint(job: Job, commit: str) -> str:
    """Return what the operator can do about a commit that `require` keeps out."""
    accept = (
        f"; to accept a rewritten history: syncd sync {job.name} --ref {commit}"
        if job.require.fast_forward
        else ""
    )
    return f"it is not tried again; push a commit that require: lets in, or change it{accept}"


def rejected_commit(error: SyncdError) -> str | None:
    """Return the commit that the error is a verdict on; None for any other error."""
    if isinstance(error, UntrustedError):
        return error.commit
    if isinstance(error, HookFailedError) and error.rejected:
        return error.commit
    return None


def record_rejection(job: Job, state: JobState, error: SyncdError, signers: str = "") -> JobState:
    """Return the state with the rejection, where the error is one. `signers`: see `judged_by`."""
    commit = rejected_commit(error)
    if commit is None:
        return state
    by_policy, pending = isinstance(error, UntrustedError), state.pending_health
    digest = judged_by(job, signers if by_policy else "")
    if pending is not None and pending.commit == commit and not by_policy:
        digest = pending.config_digest  # of the set that was checked: the job may be another since
    rejection = Rejection(commit, digest, error.message, by_policy)
    return replace(state, rejection=rejection, waiting=None)
