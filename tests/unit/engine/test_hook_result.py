"""What the result of an operator's command means."""

from __future__ import annotations

import pytest

from syncd.engine import hook_result, rejection
from syncd.errors import HookFailedError
from syncd.models import Hook, Job, PathRule
from syncd.ports import HookResult, JobState

COMMIT = "a" * 40
CHECK = Hook("nginx -t", ("nginx", "-t"))
SHELL = Hook("nginx -t | cat", ("/bin/sh", "-c", "nginx -t | cat"), True)
JOB = Job(
    "nginx",
    "ops",
    "acme/infra",
    "main",
    (PathRule("nginx", "/etc/nginx", True),),
    validate=CHECK,
    on_change=Hook("reload", ("reload",)),
)


def vetoed(end: HookResult, state: JobState = JobState(), hook: Hook = CHECK) -> HookFailedError:
    error = hook_result.validate_error(JOB, state, COMMIT, end, hook)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("end", "hook", "remembered", "said"),
    [
        (
            HookResult(status=1, output="bad line 3\n"),
            CHECK,
            True,
            "rejected commit aaaaaaa: `nginx -t` exited 1\n    | bad line 3",
        ),
        (HookResult(status=127), CHECK, True, "exited 127"),
        (HookResult(status=127), SHELL, False, "exited 127"),
        (HookResult(status=126), SHELL, False, "exited 126"),
        (HookResult(status=1), SHELL, True, "exited 1"),
        (
            HookResult(timed_out=True),
            CHECK,
            False,
            "took longer than its hook_timeout and was ended",
        ),
        (HookResult(signal=9), CHECK, False, "was ended by SIGKILL"),
        (HookResult(signal=250), CHECK, False, "was ended by signal 250"),
        (
            HookResult(problem="there is no command 'nginx'", hint="install it"),
            CHECK,
            False,
            "could not be run: there is no command",
        ),
    ],
)
def test_a_verdict_is_remembered_and_what_could_not_be_judged_is_not(
    end: HookResult, hook: Hook, remembered: bool, said: str
) -> None:
    error = vetoed(end, hook=hook)
    assert (
        said in error.message
        and error.rejected is remembered
        and (error.kind, error.exit_code) == ("hook", 1)
        and error.hint
    )
    state = rejection.record_rejection(JOB, JobState(), error)
    again = rejection.known_rejection(JOB, state, COMMIT)
    assert (again is not None) is remembered
    assert again is None or (again.message, again.hint) == (error.message, error.hint), (
        "the same words at each run: one row in the history"
    )


def test_a_pass_is_no_error() -> None:
    assert hook_result.validate_error(JOB, JobState(), COMMIT, HookResult(status=0), CHECK) is None
    assert hook_result.reload_error(CHECK, HookResult(status=0)) is None


def test_a_set_that_was_accepted_before_is_not_rejected_for_failing_now() -> None:
    error = vetoed(
        HookResult(status=1), JobState(applied_commit=COMMIT, applied_config_digest=JOB.digest)
    )
    assert not error.rejected and "nothing was changed" in error.message
    assert vetoed(
        HookResult(status=1),
        JobState(applied_commit=COMMIT, applied_config_digest="another configuration"),
    ).rejected


def test_a_message_shows_the_last_lines_and_no_more() -> None:
    error = vetoed(
        HookResult(
            status=1, output="".join(f"line {number}\n" for number in range(100)) + "x" * 100_000
        )
    )
    assert (
        len(error.message) < hook_result.MAX_OUTPUT_CHARS + 200
        and len(error.message.splitlines()) <= hook_result.MAX_OUTPUT_LINES + 1
    )
    assert error.output.startswith("line 0\n"), "all of it is with the error"
