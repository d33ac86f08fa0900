"""What a hook's end means, which commit is not tried again, when an owed reload is due, and who shares a command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace

from syncd.engine import hook_state
from syncd.errors import HookFailedError
from syncd.models import ActionKind, Change, Hook, Job, PathRule, RunReport, RunStatus, Trigger
from syncd.ports import HookResult, JobState, LastError, PendingReload

NOW = datetime(2026, 11, 24, tzinfo=UTC)
COMMIT, OTHER = "a" * 40, "b" * 40
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
REPORT = RunReport("nginx", RunStatus.CHANGED, "acme/infra", "main", COMMIT, OTHER)


def vetoed(end: HookResult, state: JobState = JobState(), hook: Hook = CHECK) -> HookFailedError:
    error = hook_state.validate_error(JOB, state, COMMIT, end, hook)
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
    state = hook_state.record_rejection(JOB, JobState(), error)
    again = hook_state.known_rejection(JOB, state, COMMIT)
    assert (again is not None) is remembered
    assert again is None or (again.message, again.hint) == (error.message, error.hint), (
        "the same words at each run: one row in the history"
    )


def test_a_pass_is_no_error() -> None:
    assert hook_state.validate_error(JOB, JobState(), COMMIT, HookResult(status=0), CHECK) is None
    assert hook_state.reload_error(CHECK, HookResult(status=0)) is None


def test_a_set_that_was_accepted_before_is_not_rejected_for_failing_now() -> None:
    error = vetoed(
        HookResult(status=1), JobState(applied_commit=COMMIT, applied_config_digest=JOB.digest)
    )
    assert not error.rejected and "nothing was changed" in error.message
    assert vetoed(
        HookResult(status=1),
        JobState(applied_commit=COMMIT, applied_config_digest="another configuration"),
    ).rejected


@pytest.mark.parametrize(
    ("change", "lifted"),
    [
        ({}, False),
        ({"validate": SHELL}, True),
        ({"validate": None}, True),
        ({"on_change": CHECK}, True),
        ({"undo_on_failure": True}, True),
        ({"hook_user": "www-data"}, True),
        ({"hook_timeout_seconds": 61.0}, True),
        ({"mode": 0o600}, True),
        ({"every_seconds": 1.0}, False),
        ({"timeout_seconds": 1.0}, False),
    ],
    ids=str,
)
def test_a_veto_stands_until_the_commit_or_what_judges_it_changes(
    change: dict[str, object], lifted: bool
) -> None:
    state = hook_state.record_rejection(JOB, JobState(), vetoed(HookResult(status=1)))
    assert hook_state.known_rejection(JOB, state, OTHER) is None
    assert (hook_state.known_rejection(replace(JOB, **change), state, COMMIT) is None) is lifted  # type: ignore[arg-type]
    assert hook_state.known_rejection(JOB, JobState(), COMMIT) is None


def test_a_debt_begins_with_a_change_keeps_its_beginning_and_ends_when_paid() -> None:
    later = NOW + timedelta(hours=1)
    owed = hook_state.require_reload(JOB, JobState(), NOW)
    assert owed.pending_reload == PendingReload(since=NOW)
    assert not hook_state.is_reload_due(JOB, owed), "the set is not in place yet"
    tried = PendingReload(since=NOW, attempts=3)
    again = hook_state.require_reload(JOB, JobState(pending_reload=tried), later)
    assert again.pending_reload == tried
    assert hook_state.is_reload_due(JOB, hook_state.with_reload_commit(again, COMMIT))
    failing = replace(again, failures=2, last_error=LastError("hook", "x"))
    paid = hook_state.reload_done(failing, REPORT, later)
    assert paid == replace(JobState(), last_success_at=later)
    assert hook_state.require_reload(replace(JOB, on_change=None), again, later) == JobState(), (
        "no command, no debt"
    )


def test_paying_does_not_make_a_failed_run_a_success() -> None:
    state = JobState(
        pending_reload=PendingReload(COMMIT),
        failures=1,
        last_error=LastError("unavailable", "gone"),
    )
    after = hook_state.reload_done(state, replace(REPORT, status=RunStatus.FAILED), NOW)
    assert after == JobState(failures=1, last_error=LastError("unavailable", "gone"))


def test_a_schedule_waits_longer_after_each_failure_and_a_hand_a_push_or_a_new_change_never() -> (
    None
):
    waits = []
    for attempts in range(1, 12):
        tried = PendingReload(COMMIT, attempts=attempts, tried_at=NOW)
        state = JobState(pending_reload=tried)
        until = hook_state.retry_at(state, Trigger.SCHEDULE, False, NOW)
        assert (
            until is not None and hook_state.retry_at(state, Trigger.SCHEDULE, False, until) is None
        )
        waits.append(until - NOW)
        assert hook_state.retry_at(state, Trigger.SCHEDULE, True, NOW) is None
        for trigger in (Trigger.OPERATOR, Trigger.PUSH, Trigger.START, Trigger.ROLLBACK):
            assert hook_state.retry_at(state, trigger, False, NOW) is None
    assert waits[0] == timedelta(minutes=1) and waits[-1] == timedelta(hours=1)
    assert all(first <= second for first, second in pairwise(waits))
    never_tried = JobState(pending_reload=PendingReload(COMMIT))
    assert hook_state.retry_at(never_tried, Trigger.SCHEDULE, False, NOW) is None


def test_jobs_share_a_command_only_with_its_user() -> None:
    assert hook_state.shared_key(JOB) == hook_state.shared_key(
        replace(JOB, name="other", repo="acme/other")
    )
    assert hook_state.shared_key(JOB) != hook_state.shared_key(replace(JOB, hook_user="www-data"))
    assert hook_state.shared_key(JOB) != hook_state.shared_key(replace(JOB, on_change=CHECK))
    assert hook_state.shared_key(replace(JOB, on_change=None)) is None


def test_a_call_for_several_jobs_names_each_value_once_and_every_change() -> None:
    other = replace(JOB, name="other", hook_timeout_seconds=90.0)
    changes = {
        "nginx": (Change(ActionKind.WRITE, "/etc/nginx/a", "nginx/a", None, OTHER),),
        "other": (),
    }
    call = hook_state.build_call(
        CHECK,
        [JOB, other],
        [REPORT, replace(REPORT, job="other", previous=None, ref=None)],
        changes,
    )
    assert dict(call.facts) == {
        "SYNCD_JOB": "nginx other",
        "SYNCD_REPO": "acme/infra",
        "SYNCD_REF": "main HEAD",
        "SYNCD_COMMIT": COMMIT,
        "SYNCD_PREVIOUS": OTHER,
    }
    assert call.jobs == ("nginx", "other") and call.timeout_seconds == 90.0
    told = json.loads(call.changes)
    assert told["jobs"][0]["changes"] == [
        {
            "action": "write",
            "path": "/etc/nginx/a",
            "from": "nginx/a",
            "before": None,
            "after": OTHER,
        }
    ]


def test_a_message_shows_the_last_lines_and_no_more() -> None:
    error = vetoed(
        HookResult(
            status=1, output="".join(f"line {number}\n" for number in range(100)) + "x" * 100_000
        )
    )
    assert (
        len(error.message) < hook_state.MAX_OUTPUT_CHARS + 200
        and len(error.message.splitlines()) <= hook_state.MAX_OUTPUT_LINES + 1
    )
    assert error.output.startswith("line 0\n"), "all of it is with the error"
