"""`require`: which commits a job takes at all, before anything of them is read; and what is kept of those that it took.

A refusal is remembered like a veto: it costs one request answered 304 until the head or the configuration changes.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import RemoteUnavailableError, UntrustedError
from syncd.git_objects import is_object_id
from syncd.models import Job, RunReport
from syncd.ports import JobState, RunRecord, Source, Store

log = logging.getLogger(__name__)

CHECKER_FAILED_PREFIX = "gpgverify_"  # GitHub's own checker was away: says nothing of the commit


def check_required(
    job: Job,
    commit: str,
    state: JobState,
    asked_ref: str | None,
    source: Source,
    deadline: Deadline,
) -> None:
    """Raises UntrustedError for a commit that `require` keeps out, RemoteUnavailableError when GitHub can't tell now.

    A commit named by hand (`--ref`) is the hand's own word on the history, but not on the signature.
    """
    if job.require.verified and (
        commit != state.applied_commit or job.digest != state.applied_config_digest
    ):
        _check_verified(job, commit, source, deadline)
    before = state.accepted_commit if state.accepted_history == _line(job) else None
    if (
        job.require.fast_forward
        and asked_ref is None
        and before is not None
        and before != commit
        and not source.is_descendant(job.repo, before, commit, deadline)
    ):
        raise UntrustedError(
            f"{_ref_of(job)} was rewritten: {commit[:7]} does not follow {before[:7]}, which was accepted; nothing was changed",
            commit=commit,
            hint=f"look at what happened to the branch; if that is right: syncd sync {job.name} --ref {commit}",
        )


def accept(
    job: Job,
    store: Store,
    before: JobState,
    report: RunReport,
    result: RunRecord,
    asked_ref: str | None,
) -> tuple[RunReport, RunRecord]:
    """The run brought its commit: that is what the next head has to follow, unless a hand asked for another line.

    A ref that names again what the job had left behind is an event: it is noted, and written into the log.
    """
    if asked_ref is not None and not is_object_id(asked_ref):
        return report, result
    state = replace(
        result.state, accepted_commit=result.state.applied_commit, accepted_history=_line(job)
    )
    store.save_accepted_commit(job.name, state, begin=job.require.fast_forward)
    last, now = (
        before.accepted_commit if before.accepted_history == _line(job) else None,
        state.accepted_commit,
    )
    if last is not None and now is not None and now != last and store.applied_before(job.name, now):
        text = (
            f"{_ref_of(job)} went back from {last[:7]} to {now[:7]}, which had been applied before"
        )
        log.warning("%s: %s", job.name, text)
        report = replace(report, notes=(*report.notes, text))
    return report, replace(result, state=state)


def _check_verified(job: Job, commit: str, source: Source, deadline: Deadline) -> None:
    verified, reason = source.verification(job.repo, commit, deadline)
    if verified:
        return
    if reason.startswith(CHECKER_FAILED_PREFIX):
        raise RemoteUnavailableError(
            f"GitHub can't say now whether commit {commit[:7]} of {job.repo} is verified ({reason})",
            hint="nothing was changed; the next run asks again",
        )
    raise UntrustedError(
        f"commit {commit[:7]} of {job.repo} is not verified by GitHub ({reason}); nothing was changed",
        commit=commit,
        hint="sign it with a key that GitHub knows and push again; or set require: {verified: false}",
    )


def _ref_of(job: Job) -> str:
    return f"{job.ref or 'the default branch'} of {job.repo}"


def _line(job: Job) -> str:
    """The line of history that is followed: another repository or ref begins anew."""
    return f"{job.repo.lower()} {job.ref or ''}"
