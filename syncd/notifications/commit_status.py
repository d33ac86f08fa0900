"""Which status of a commit a run calls for, and what is sent to GitHub for it.

A status is a verdict on a commit: applied, refused, or not decided yet. A network that is away says
nothing about a commit, so it sets none. Pure: no I/O.

Source: GitHub REST docs, "Create a commit status": `pending`, `success`, `failure` and `error`; a
description of at most 140 characters.
"""

from __future__ import annotations

import json

from msgspec import Struct

from syncd.apply_rules import WaitingCommit
from syncd.errors import (
    AuthError,
    BadResponseError,
    LockedError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    SyncdError,
)
from syncd.models import Job, RunReport, RunStatus, Trigger
from syncd.ports import JobState
from syncd.text import one_line

MAX_DESCRIPTION_CHARACTERS = 140
MARK = "status"  # under which `Reported` keeps the last one
PREFIX = "status:"  # of the name of an outbox endpoint; an identity follows
NO_VERDICT = (
    AuthError,
    BadResponseError,
    LockedError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
)


class CommitStatus(Struct, frozen=True):
    """The status to set on a commit."""

    commit: str
    state: str
    description: str

    @property
    def mark(self) -> str:
        """What is kept of it, so that it is set once."""
        return f"{self.commit}:{self.state}"


def status_of(report: RunReport, state: JobState) -> CommitStatus | None:
    """Return the status that the run calls for; None where it says nothing about a commit."""
    error, commit = report.error, report.commit
    if report.status is RunStatus.SKIPPED or isinstance(error, NO_VERDICT):
        return None
    if report.trigger is Trigger.ROLLBACK:
        return _rolled_back(report)
    if error is not None:
        return None if commit is None else CommitStatus(commit, "failure", _reason(error))
    if report.waiting is not None:
        return _waiting(report.waiting)
    if commit is None:
        return None
    if report.reload_at is not None:
        text = f"applied, and on_change waits until {report.reload_at:%Y-%m-%dT%H:%M:%SZ}"
        return CommitStatus(commit, "pending", text)
    if report.reload_pending:
        return CommitStatus(commit, "pending", "on_change has not succeeded yet")
    if report.checking:
        return CommitStatus(commit, "pending", "applied, and its health is being checked")
    if commit != state.applied_commit:
        return None
    files = "1 file" if report.files == 1 else f"{report.files} files"
    return CommitStatus(commit, "success", f"applied: {files}")


def _waiting(waiting: WaitingCommit) -> CommitStatus:
    until = "" if waiting.until is None else f" until {waiting.until:%Y-%m-%dT%H:%M:%SZ}"
    reason = f": {waiting.reason}" if waiting.reason else ""
    return CommitStatus(waiting.commit, "pending", f"waits to be applied{until}{reason}")


def _rolled_back(report: RunReport) -> CommitStatus | None:
    if (
        report.error is not None
        or report.commit is None
        or report.previous in (None, report.commit)
    ):
        return None
    text = f"rolled back to {report.commit[:7]} by an operator"
    return CommitStatus(str(report.previous), "failure", text)


def _reason(error: SyncdError) -> str:
    return error.message.strip().splitlines()[0] if error.message.strip() else error.kind


def endpoint_of(job: Job) -> str | None:
    """Return the name of the outbox endpoint of the job's statuses; None where it sets none."""
    report = job.report
    return f"{PREFIX}{report.identity}" if report.status and report.identity else None


def body(job: Job, host: str, status: CommitStatus) -> str:
    """Return what the outbox keeps of the status."""
    context = job.report.context.replace("{host}", host).replace("{job}", job.name)
    description = one_line(status.description)
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        description = description[: MAX_DESCRIPTION_CHARACTERS - 1] + "…"
    value = {
        "repo": job.repo,
        "commit": status.commit,
        "state": status.state,
        "context": context,
        "description": description,
    }
    return json.dumps(value)
