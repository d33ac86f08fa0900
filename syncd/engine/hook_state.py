"""What a hook's result means, which commit is not tried again, and when a pending reload is due.

`validate` may reject a commit before anything is replaced; the rejection is remembered until the
commit or the job's configuration changes. A reload is pending from the moment a change is intended
until `on_change` has succeeded once, across crashes and restarts. What could not be judged (no such
command, no answer in time) is a failure of the run and no verdict on the commit: it is tried again.
Pure: no I/O.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from msgspec.structs import asdict, replace

from syncd.errors import HookFailedError, SyncdError, UntrustedError
from syncd.models import Change, Hook, Job, RunReport, RunStatus, Trigger
from syncd.ports import HookCall, HookResult, JobState, PendingReload, Rejection
from syncd.redaction import redact

MIN_RETRY_DELAY = timedelta(minutes=1)
MAX_RETRY_DELAY = timedelta(hours=1)
MAX_COMMAND_CHARS = 120
# of a hook's output in a message; all of it is in the error's `output`
MAX_OUTPUT_LINES, MAX_OUTPUT_CHARS = 10, 2000
# Source: POSIX sh. The command was found but could not be run; it was not found.
SHELL_COULD_NOT_RUN = (126, 127)


# --- validate -----------------------------------------------------------------------------------


def hook_config_digest(job: Job) -> str:
    """Return a digest of the configuration by which hooks judge a commit.

    It changes when, and only when, a hook might judge the same commit differently.
    """
    hooks = {
        name: asdict(hook) if hook else None
        for name, hook in (("validate", job.validate), ("on_change", job.on_change))
    }
    return sha256(
        json.dumps(
            [job.digest, hooks, job.undo_on_failure, job.hook_user, job.hook_timeout_seconds],
            sort_keys=True,
        ).encode()
    ).hexdigest()


def under_new_name(job: Job, old: str, state: JobState) -> JobState:
    """Return the state of the job `old`, which is `job` under another name and otherwise as it
    was.
    """
    former = replace(job, name=old)
    if state.applied_config_digest == former.digest:
        state = replace(state, applied_config_digest=job.digest)
    rejection = state.rejection
    if rejection is not None and rejection.config_digest == hook_config_digest(former):
        rejection = replace(rejection, config_digest=hook_config_digest(job))
    return replace(state, rejection=rejection)


def known_rejection(
    job: Job, state: JobState, commit: str
) -> HookFailedError | UntrustedError | None:
    """Return why the commit was rejected before; None when it is to be tried."""
    known = state.rejection
    if known is None or known.commit != commit or known.config_digest != hook_config_digest(job):
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


REJECTED_HINT = (
    "it is not tried again; push a commit that passes, or change the job's configuration"
)


def validate_error(
    job: Job, state: JobState, commit: str, end: HookResult, hook: Hook
) -> HookFailedError | None:
    """Return the error that the result of `validate` means; None for a pass.

    A set that was accepted before is not rejected for failing now: the machine is the cause of
    that.
    """
    accepted_before = commit == state.applied_commit and job.digest == state.applied_config_digest
    verdict = end.status is not None and not (hook.shell and end.status in SHELL_COULD_NOT_RUN)
    if end.status == 0:
        return None
    if verdict and not accepted_before:
        text = (
            f"validate rejected commit {commit[:7]}: "
            f"{describe_result(hook, end)}{shown_output(end.output)}"
        )
        return _rejection("hook/commit-rejected", text, end, commit)
    text = (
        "validate failed, so nothing was changed: "
        f"{describe_result(hook, end)}{shown_output(end.output)}"
    )
    return HookFailedError(
        text,
        output=end.output,
        status=end.status,
        id="hook/validate-failed",
        hint=end.hint or "it is tried again at the next run",
    )


def record_rejection(job: Job, state: JobState, error: SyncdError) -> JobState:
    """Return the state with the rejection, where the error is one."""
    commit = rejected_commit(error)
    if commit is None:
        return state
    by_policy = isinstance(error, UntrustedError)
    rejection = Rejection(commit, hook_config_digest(job), error.message, by_policy)
    return replace(state, rejection=rejection)


def rejected_commit(error: SyncdError) -> str | None:
    """Return the commit that the error is a verdict on; None for any other error."""
    if isinstance(error, UntrustedError):
        return error.commit
    if isinstance(error, HookFailedError) and error.rejected:
        return error.commit
    return None


# --- on_change ----------------------------------------------------------------------------------


def require_reload(job: Job, state: JobState, since: datetime | None) -> JobState:
    """Return the state with a reload pending; `since` is when the run began that makes the
    changes.
    """
    if job.on_change is None:
        return replace(state, pending_reload=None)
    pending = state.pending_reload or PendingReload(reloaded_commit=state.applied_commit)
    return replace(state, pending_reload=replace(pending, since=pending.since or since))


def with_intended_reload(job: Job, state: JobState, since: datetime | None) -> JobState:
    """Return the state to store with an intent: the change that is intended needs a reload.

    Without an `on_change` it stays as it is: what is pending is dropped once the change is made.
    """
    return state if job.on_change is None else require_reload(job, state, since)


def with_reload_commit(state: JobState, commit: str | None) -> JobState:
    """Return the state whose pending reload, if there is one, is for this commit."""
    pending = state.pending_reload
    return replace(
        state, pending_reload=None if pending is None else replace(pending, commit=commit)
    )


def is_reload_due(job: Job, state: JobState) -> bool:
    """Return whether a reload is pending and the whole set that it is for is in place."""
    pending = state.pending_reload
    return job.on_change is not None and pending is not None and pending.commit is not None


def retry_at(state: JobState, trigger: Trigger, changed: bool, now: datetime) -> datetime | None:
    """Return until when a reload that failed before has to wait; None for a reload that may run
    now.

    Only runs by schedule and retries wait: an operator or a push does not.
    """
    pending = state.pending_reload
    if pending is None or pending.tried_at is None:
        return None
    if changed or trigger not in (Trigger.SCHEDULE, Trigger.RETRY):
        return None
    doublings = min(max(0, pending.attempts - 1), 16)
    due = pending.tried_at + min(MAX_RETRY_DELAY, MIN_RETRY_DELAY * 2**doublings)
    return due if due > now else None


def reload_pending_error(hook: Hook, state: JobState, until: datetime) -> HookFailedError:
    """Return the error of a run whose pending reload still has to wait."""
    pending = state.pending_reload or PendingReload()
    reason = "" if state.last_error is None else state.last_error.message
    return HookFailedError(
        f"on_change is pending since {pending.attempts} failed attempt(s): "
        f"{reason or shown_command(hook)}",
        id="hook/reload-waits",
        hint=f"it is tried again at {until:%Y-%m-%dT%H:%M:%SZ}; or now: syncd sync",
    )


def reload_error(hook: Hook, end: HookResult) -> HookFailedError | None:
    """Return the error that the result of `on_change` means; None for a success."""
    if end.status == 0:
        return None
    return HookFailedError(
        f"on_change failed: {describe_result(hook, end)}{shown_output(end.output)}",
        output=end.output,
        status=end.status,
        id="hook/on-change-failed",
        hint=end.hint
        or "the files are in place and the reload is pending: it runs again at the next run, "
        "until it succeeds",
    )


def undo_verdict(hook: Hook, end: HookResult, commit: str) -> HookFailedError | None:
    """Return the verdict on the commit whose reload failed, when its set is put back for that.

    None where the command could not be run at all: that says nothing of the commit.
    """
    if end.problem is not None:
        return None
    text = (
        f"on_change failed with commit {commit[:7]}, and the previous set was put back: "
        f"{describe_result(hook, end)}{shown_output(end.output)}"
    )
    return _rejection("hook/change-undone", text, end, commit)


def _rejection(error_id: str, text: str, end: HookResult, commit: str) -> HookFailedError:
    """Return the error that keeps the commit from being tried again."""
    return HookFailedError(
        text,
        output=end.output,
        status=end.status,
        rejected=True,
        commit=commit,
        id=error_id,
        hint=REJECTED_HINT,
    )


def after_undo(
    state: JobState, verdict: HookFailedError, again: HookFailedError | None, now: datetime
) -> JobState:
    """Return the state after the previous set was put back and the reload run once more.

    The reload is still pending when that failed too. The job is failing in both cases.
    """
    if again is None:
        state = replace(state, pending_reload=None)
    else:
        state = _after_failed_attempt(state, now)
    return state.after_failure(verdict)


def reload_done(state: JobState, report: RunReport, now: datetime) -> JobState:
    """Return the state after a reload that succeeded.

    A run that did everything is a success only now.
    """
    after = replace(state, pending_reload=None, undo=None)
    if report.status not in (RunStatus.CHANGED, RunStatus.UNCHANGED):
        return after
    return after.after_success(now)


def reload_failed_again(state: JobState, error: SyncdError, own: bool, now: datetime) -> JobState:
    """Return the state after one more failed attempt.

    `own`: the run had no other error, so this is the job's.
    """
    after = _after_failed_attempt(state, now)
    return after.after_failure(error) if own else after


def _after_failed_attempt(state: JobState, now: datetime) -> JobState:
    pending = state.pending_reload
    if pending is None:
        return state
    tried = replace(pending, attempts=pending.attempts + 1, tried_at=now)
    return replace(state, pending_reload=tried)


# --- both ---------------------------------------------------------------------------------------


def shared_key(job: Job) -> tuple[object, ...] | None:
    """Return a key: jobs with the same one run their `on_change` together.

    None: they have no `on_change`.
    """
    return None if job.on_change is None else (job.on_change.argv, job.hook_user)


def build_call(
    hook: Hook,
    jobs: Sequence[Job],
    reports: Sequence[RunReport],
    changes: Mapping[str, Sequence[Change]],
) -> HookCall:
    """Return the command for these jobs as one call: values of several jobs are joined by spaces,
    each once.
    """
    facts = {
        "SYNCD_JOB": [job.name for job in jobs],
        "SYNCD_REPO": [job.repo for job in jobs],
        "SYNCD_REF": [report.ref or "HEAD" for report in reports],
        "SYNCD_COMMIT": [report.commit or "" for report in reports],
        "SYNCD_PREVIOUS": [report.previous or "" for report in reports],
    }
    return HookCall(
        hook,
        tuple(job.name for job in jobs),
        {name: " ".join(dict.fromkeys(filter(None, values))) for name, values in facts.items()},
        changes_json(jobs, reports, changes),
        max(job.hook_timeout_seconds for job in jobs),
        jobs[0].hook_user,
    )


def changes_json(
    jobs: Sequence[Job], reports: Sequence[RunReport], changes: Mapping[str, Sequence[Change]]
) -> str:
    """Return the JSON that SYNCD_CHANGES names: every job with its changes, as `syncd sync --json`
    has them.
    """
    rows = [
        {
            "job": job.name,
            "repo": job.repo,
            "ref": report.ref,
            "commit": report.commit,
            "previous": report.previous,
            "changes": [
                {
                    "action": change.action.value,
                    "path": change.path,
                    "from": change.source,
                    "before": change.before,
                    "after": change.after,
                }
                for change in changes.get(job.name, ())
            ],
        }
        for job, report in zip(jobs, reports, strict=True)
    ]
    return json.dumps({"schema": "syncd.changes/1", "jobs": rows})


def describe_result(hook: Hook, end: HookResult) -> str:
    """Return how the command ended, in words: `nginx -t` exited 1, was ended after its
    hook_timeout.
    """
    if end.problem is not None:
        return f"`{shown_command(hook)}` could not be run: {end.problem}"
    if end.timed_out:
        return f"`{shown_command(hook)}` took longer than its hook_timeout and was ended"
    if end.signal is not None:
        return f"`{shown_command(hook)}` was ended by {_signal_name(end.signal)}"
    return f"`{shown_command(hook)}` exited {end.status}"


def shown_command(hook: Hook) -> str:
    """Return the command on one line, without the secrets that may be written into it."""
    text = " ".join(redact(hook.text).split())
    return text if len(text) <= MAX_COMMAND_CHARS else text[: MAX_COMMAND_CHARS - 1] + "…"


def shown_output(output: str) -> str:
    """Return the last lines of an output, indented, as they follow a message."""
    lines = [line for line in output[-MAX_OUTPUT_CHARS:].splitlines() if line.strip()][
        -MAX_OUTPUT_LINES:
    ]
    return "".join(f"\n    | {line}" for line in lines)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def first_line(text: str) -> str:
    """Return the text up to its first line end."""
    return text.partition("\n")[0]
