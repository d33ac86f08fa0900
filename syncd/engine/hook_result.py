"""What the result of an operator's command means: an error in words, or none.

`validate` may reject a commit before anything is replaced. What could not be judged (no such
command, no answer in time) is a failure of the run and no verdict on the commit: it is tried again.
Pure: no I/O.
"""

from __future__ import annotations

import signal

from syncd.engine.rejection import REJECTED_HINT
from syncd.errors import HookFailedError
from syncd.models import Hook, Job
from syncd.ports import HookResult, JobState
from syncd.redaction import redact

MAX_COMMAND_CHARS = 120
# of a hook's output in a message; all of it is in the error's `output`
MAX_OUTPUT_LINES, MAX_OUTPUT_CHARS = 10, 2000
# Source: POSIX sh. The command was found but could not be run; it was not found.
SHELL_COULD_NOT_RUN = (126, 127)


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


def health_verdict(commit: str, live: str, reason: str, end: HookResult) -> HookFailedError:
    """Return the verdict on a commit that is not healthy; `live` goes on with what is in place."""
    return _rejection(
        "hook/not-healthy",
        f"commit {commit[:7]} is not healthy{live}: {reason}",
        end,
        commit,
    )


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


def describe_result(hook: Hook, end: HookResult, limit: str = "hook_timeout") -> str:
    """Return how the command ended, in words: `nginx -t` exited 1, was ended after its
    hook_timeout. `limit` is the key of its time limit.
    """
    if end.problem is not None:
        return f"`{shown_command(hook)}` could not be run: {end.problem}"
    if end.timed_out:
        return f"`{shown_command(hook)}` took longer than its {limit} and was ended"
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
