"""When a pending reload is due, what its attempts mean, and which jobs share a command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace

from syncd.engine import reload_state
from syncd.models import Hook, Job, PathRule, RunReport, RunStatus, Trigger
from syncd.ports import Condition, JobState, LastError, PendingReload

NOW = datetime(2026, 11, 24, tzinfo=UTC)
COMMIT, OTHER = "a" * 40, "b" * 40
CHECK = Hook("nginx -t", ("nginx", "-t"))
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


def test_a_reload_is_pending_from_the_first_change_until_it_succeeds() -> None:
    later = NOW + timedelta(hours=1)
    pending = reload_state.require_reload(JOB, JobState(), NOW)
    assert pending.pending_reload == PendingReload(since=NOW)
    assert not reload_state.is_reload_due(JOB, pending), "the set is not in place yet"
    tried = PendingReload(since=NOW, attempts=3)
    again = reload_state.require_reload(JOB, JobState(pending_reload=tried), later)
    assert again.pending_reload == tried
    assert reload_state.is_reload_due(JOB, reload_state.with_reload_commit(again, COMMIT))
    failing = replace(again, failures=2, last_error=LastError("hook", "x"))
    done = reload_state.reload_done(failing, REPORT, later)
    assert done == JobState(last_success_at=later, condition=Condition("in_sync", later))
    assert reload_state.require_reload(replace(JOB, on_change=None), again, later) == JobState(), (
        "no command, no reload"
    )


def test_a_reload_that_succeeds_does_not_make_a_failed_run_a_success() -> None:
    state = JobState(
        pending_reload=PendingReload(COMMIT),
        failures=1,
        last_error=LastError("unavailable", "gone"),
    )
    after = reload_state.reload_done(state, replace(REPORT, status=RunStatus.FAILED), NOW)
    assert after == JobState(
        failures=1,
        last_error=LastError("unavailable", "gone"),
        condition=Condition("failing", NOW),
    )


@pytest.mark.parametrize(
    ("attempts", "is_well", "condition"),
    [(0, True, "waiting"), (0, False, "failing"), (1, True, "failing")],
    ids=["an error before it is over", "the run has an error", "the reload has failed"],
)
def test_a_job_is_waiting_while_its_reload_is_put_off_and_nothing_else_is_wrong(
    attempts: int, is_well: bool, condition: str
) -> None:
    state = JobState(
        pending_reload=PendingReload(COMMIT, attempts=attempts),
        failures=1,
        last_error=LastError("hook", "x"),
        last_success_at=NOW,
    )
    after = reload_state.deferred(state, NOW + timedelta(minutes=1), is_well, NOW)
    assert after.condition == Condition(condition, NOW)


def test_only_scheduled_runs_wait_with_a_failed_reload_and_longer_each_time() -> None:
    waits = []
    for attempts in range(1, 12):
        tried = PendingReload(COMMIT, attempts=attempts, tried_at=NOW)
        state = JobState(pending_reload=tried)
        until = reload_state.retry_at(state, Trigger.SCHEDULE, False, NOW)
        assert (
            until is not None
            and reload_state.retry_at(state, Trigger.SCHEDULE, False, until) is None
        )
        waits.append(until - NOW)
        assert reload_state.retry_at(state, Trigger.SCHEDULE, True, NOW) is None
        for trigger in (Trigger.OPERATOR, Trigger.PUSH, Trigger.START, Trigger.ROLLBACK):
            assert reload_state.retry_at(state, trigger, False, NOW) is None
    assert waits[0] == timedelta(minutes=1) and waits[-1] == timedelta(hours=1)
    assert all(first <= second for first, second in pairwise(waits))
    never_tried = JobState(pending_reload=PendingReload(COMMIT))
    assert reload_state.retry_at(never_tried, Trigger.SCHEDULE, False, NOW) is None


def test_jobs_share_a_command_only_with_its_user() -> None:
    assert reload_state.shared_key(JOB) == reload_state.shared_key(
        replace(JOB, name="other", repo="acme/other")
    )
    assert reload_state.shared_key(JOB) != reload_state.shared_key(
        replace(JOB, hook_user="www-data")
    )
    assert reload_state.shared_key(JOB) != reload_state.shared_key(replace(JOB, on_change=CHECK))
    assert reload_state.shared_key(replace(JOB, on_change=None)) is None
