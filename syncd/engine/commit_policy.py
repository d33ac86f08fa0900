"""`require`: which commits a job accepts at all, before anything of them is read.

A refusal is remembered like a rejection by `validate`: it costs one request answered 304 until the
head or the configuration changes. Also keeps which commit was accepted last.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from syncd.engine.context import RunState
from syncd.errors import RemoteUnavailableError, UntrustedError
from syncd.git_objects import is_object_id
from syncd.models import Job
from syncd.ports import AcceptedCommit, JobState, RunRecord

log = logging.getLogger(__name__)

CHECKER_FAILED_PREFIX = "gpgverify_"  # GitHub's own checker failed: says nothing of the commit


def check_required(run: RunState, commit: str) -> None:
    """Raise UntrustedError for a commit that `require` keeps out.

    A commit that the operator names (`--ref`) may rewrite the history, but its signature is still
    checked. Raises RemoteUnavailableError when GitHub can't tell now.
    """
    job, state = run.job, run.state
    already_applied = commit == state.applied_commit and job.digest == state.applied_config_digest
    if job.require.verified and not already_applied:
        _check_verified(run, commit)
    if job.require.fast_forward and run.options.ref is None:
        _check_fast_forward(run, commit)


def _check_fast_forward(run: RunState, commit: str) -> None:
    job = run.job
    before = _accepted_before(job, run.state)
    if before is None or before == commit:
        return
    if run.ctx.source.is_descendant(job.repo, before, commit, run.deadline):
        return
    raise UntrustedError(
        f"{_ref_of(job)} was rewritten: {commit[:7]} does not follow {before[:7]}, "
        "which was accepted; nothing was changed",
        commit=commit,
        id="limit/history-rewritten",
        hint="look at what happened to the branch; if that is right: "
        f"syncd sync {job.name} --ref {commit}",
    )


def accept(run: RunState, before: JobState, result: RunRecord) -> RunRecord:
    """Return the result with its commit as the one that the next head has to follow.

    A run of another ref that the operator named changes nothing of that. A ref that names again
    what the job had left behind is noted in the report and in the log. `before` is the job's state
    before the run.
    """
    job, store, asked_ref = run.job, run.ctx.store, run.options.ref
    if asked_ref is not None and not is_object_id(asked_ref):
        return result
    now = result.state.applied_commit
    accepted = None if now is None else AcceptedCommit(now, _history(job))
    state = replace(result.state, accepted=accepted)
    store.save_accepted_commit(job.name, state, begin=job.require.fast_forward)
    last = _accepted_before(job, before)
    report = result.report
    if last is not None and now is not None and now != last and store.applied_before(job.name, now):
        note = (
            f"{_ref_of(job)} went back from {last[:7]} to {now[:7]}, which had been applied before"
        )
        log.warning("%s: %s", job.name, note)
        report = replace(report, notes=(*report.notes, note))
    return replace(result, report=report, state=state)


def _check_verified(run: RunState, commit: str) -> None:
    job = run.job
    verified, reason = run.ctx.source.verification(job.repo, commit, run.deadline)
    if verified:
        return
    if reason.startswith(CHECKER_FAILED_PREFIX):
        raise RemoteUnavailableError(
            f"GitHub can't say now whether commit {commit[:7]} of {job.repo} is verified "
            f"({reason})",
            id="unavailable/verification",
            hint="nothing was changed; the next run asks again",
        )
    raise UntrustedError(
        f"commit {commit[:7]} of {job.repo} is not verified by GitHub ({reason}); "
        "nothing was changed",
        commit=commit,
        id="limit/commit-not-verified",
        hint="sign it with a key that GitHub knows and push again; "
        "or set require: {verified: false}",
    )


def _accepted_before(job: Job, state: JobState) -> str | None:
    """Return the last accepted commit of the history that the job follows now."""
    accepted = state.accepted
    return accepted.commit if accepted is not None and accepted.history == _history(job) else None


def _ref_of(job: Job) -> str:
    return f"{job.ref or 'the default branch'} of {job.repo}"


def _history(job: Job) -> str:
    """Return the name of the history that is followed: another repository or ref begins anew."""
    return f"{job.repo.lower()} {job.ref or ''}"
