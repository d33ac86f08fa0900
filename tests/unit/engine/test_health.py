"""The health window as a table: what the checks so far say, when the next one is due, and what each
result adds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.engine import health
from syncd.engine.health import Verdict
from syncd.engine.rejection import hook_config_digest
from syncd.models import Health, Hook, Job
from syncd.ports import CheckResult, JobState, LastError, PendingHealth, PendingReload, UndoInfo

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
COMMIT, OTHER = "b" * 40, "a" * 40
RULES = Health(Hook("healthy", ("healthy",)), 120.0, 5.0, 5.0, 2)
JOB = Job("nginx", "ops", "acme/infra", "main", (), health=RULES)
PENDING = PendingHealth(COMMIT, hook_config_digest(JOB))
UNDECIDED, HEALTHY, UNHEALTHY = Verdict.UNDECIDED, Verdict.HEALTHY, Verdict.UNHEALTHY
PASSED, FAILED, NOT_RUN = CheckResult.PASSED, CheckResult.FAILED, CheckResult.NOT_RUN


@pytest.mark.parametrize(
    ("seconds", "passed", "failed", "last", "verdict"),
    [
        (0, 0, 0, None, UNDECIDED),
        (60, 12, 0, PASSED, UNDECIDED),
        (60, 0, 1, FAILED, UNDECIDED),
        (60, 0, 0, NOT_RUN, UNDECIDED),
        (60, 12, 0, NOT_RUN, UNDECIDED),
        # so many in a row have failed, whenever that is
        (5, 0, 2, FAILED, UNHEALTHY),
        (60, 11, 2, FAILED, UNHEALTHY),
        (60, 11, 2, NOT_RUN, UNHEALTHY),
        (119, 20, 3, FAILED, UNHEALTHY),
        (120, 23, 2, FAILED, UNHEALTHY),
        # the window has ended
        (119.9, 23, 0, PASSED, UNDECIDED),
        (120, 24, 0, PASSED, HEALTHY),
        (120, 1, 0, PASSED, HEALTHY),
        (125, 1, 0, PASSED, HEALTHY),
        (120, 23, 1, FAILED, UNDECIDED),
        (130, 23, 1, FAILED, UNDECIDED),
        (120, 0, 1, FAILED, UNHEALTHY),
        (120, 0, 0, NOT_RUN, UNHEALTHY),
        (120, 23, 0, NOT_RUN, UNHEALTHY),
        (120, 0, 0, None, UNHEALTHY),
    ],
)
def test_the_verdict_is_as_the_table_says(
    seconds: float, passed: int, failed: int, last: CheckResult | None, verdict: Verdict
) -> None:
    pending = PendingHealth(COMMIT, "d", NOW, NOW, seconds, passed, failed, last)
    assert health.decide(RULES, pending) is verdict


@pytest.mark.parametrize(
    ("failures", "failed", "verdict"),
    [(1, 0, UNDECIDED), (1, 1, UNHEALTHY), (3, 2, UNDECIDED), (3, 3, UNHEALTHY)],
)
def test_failures_says_how_many_in_a_row_are_too_many(
    failures: int, failed: int, verdict: Verdict
) -> None:
    pending = PendingHealth(COMMIT, "d", NOW, NOW, 30.0, 3, failed, FAILED)
    assert health.decide(replace(RULES, failures=failures), pending) is verdict


@pytest.mark.parametrize(
    ("since_opened", "since_checked", "wait"),
    [
        (0, None, 5.0),
        (3, None, 2.0),
        (5, None, 0.0),
        (600, None, 0.0),
        (600, 0, 5.0),
        (600, 1.5, 3.5),
        (600, 5, 0.0),
        (600, 4000, 0.0),
        # the clock was set back: nothing waits for the old time
        (-3600, None, 0.0),
        (600, -3600, 0.0),
    ],
)
def test_the_next_check_is_due_one_interval_after_the_last(
    since_opened: float, since_checked: float | None, wait: float
) -> None:
    checked = None if since_checked is None else NOW - timedelta(seconds=since_checked)
    pending = replace(PENDING, since=NOW - timedelta(seconds=since_opened), checked_at=checked)
    assert health.seconds_until_check(RULES, pending, NOW) == wait


@pytest.mark.parametrize(
    ("result", "before", "after"),
    [
        (PASSED, {}, {"passed": 1, "failed": 0, "last": PASSED, "reason": ""}),
        (FAILED, {}, {"passed": 0, "failed": 1, "last": FAILED, "reason": "why"}),
        (NOT_RUN, {}, {"passed": 0, "failed": 0, "last": NOT_RUN, "reason": "why"}),
        (
            PASSED,
            {"passed": 3, "failed": 1, "reason": "old"},
            {"passed": 4, "failed": 0, "last": PASSED, "reason": ""},
        ),
        (FAILED, {"passed": 3, "failed": 1}, {"passed": 3, "failed": 2, "last": FAILED}),
        (NOT_RUN, {"passed": 3, "failed": 1}, {"passed": 3, "failed": 1, "last": NOT_RUN}),
    ],
)
def test_a_check_is_counted_as_the_table_says(
    result: CheckResult, before: dict[str, Any], after: dict[str, Any]
) -> None:
    pending = replace(PENDING, since=NOW, seconds=20.0, **before)
    found = health.after_check(RULES, pending, result, NOW + timedelta(seconds=5), "why")
    assert {name: getattr(found, name) for name in after} == after
    assert (found.seconds, found.checked_at) == (25.0, NOW + timedelta(seconds=5))


@pytest.mark.parametrize(
    ("elapsed", "counted"),
    [(5, 5.0), (10, 10.0), (11, 10.0), (86_400, 10.0), (0, 0.0), (-3600, 0.0)],
    ids=["in time", "late", "later", "switched off", "at once", "set back"],
)
def test_only_watched_time_counts(elapsed: float, counted: float) -> None:
    pending = replace(PENDING, since=NOW - timedelta(hours=1), checked_at=NOW)
    found = health.after_check(RULES, pending, PASSED, NOW + timedelta(seconds=elapsed), "")
    assert found.seconds == counted


# --- the job's state ------------------------------------------------------------------------------

APPLIED = JobState(applied_commit=OTHER, applied_config_digest=JOB.digest)


def test_a_change_needs_a_check_from_its_intent_on() -> None:
    assert health.with_intended_check(JOB, APPLIED, COMMIT).pending_health == PENDING
    first = health.with_intended_check(JOB, JobState(), COMMIT)
    assert first.pending_health == PENDING


def test_another_configuration_of_the_same_commit_needs_a_check() -> None:
    state = replace(APPLIED, applied_config_digest="other")
    assert health.with_intended_check(JOB, state, OTHER).pending_health is not None


def test_a_repair_needs_no_check_and_keeps_one_that_is_pending() -> None:
    assert health.with_intended_check(JOB, APPLIED, OTHER) == APPLIED
    opened = replace(APPLIED, pending_health=replace(PENDING, since=NOW, seconds=60.0, passed=12))
    again = health.with_intended_check(JOB, opened, OTHER).pending_health
    assert again == PendingHealth(OTHER, hook_config_digest(JOB))


def test_a_job_without_health_needs_no_check() -> None:
    assert health.with_intended_check(replace(JOB, health=None), APPLIED, COMMIT) == APPLIED


@pytest.mark.parametrize(
    ("more", "opens"),
    [
        ({}, True),
        ({"pending_reload": PendingReload()}, False),
        ({"consistent": False}, False),
        ({"applied_commit": OTHER}, False),
    ],
)
def test_the_window_opens_when_the_whole_set_is_in_place_and_reloaded(
    more: dict[str, Any], opens: bool
) -> None:
    state = replace(JobState(applied_commit=COMMIT, pending_health=PENDING), **more)
    pending = health.with_open_window(state, NOW).pending_health
    assert pending == replace(PENDING, since=NOW if opens else None)


def test_an_open_window_is_not_opened_again() -> None:
    opened = replace(PENDING, since=NOW - timedelta(minutes=1), seconds=60.0)
    state = JobState(applied_commit=COMMIT, pending_health=opened)
    assert health.with_open_window(state, NOW) == state


def test_a_run_is_no_success_before_its_health_is_known() -> None:
    state = JobState(applied_commit=COMMIT, failures=2, last_error=LastError("hook"))
    assert health.succeeded(state, NOW).last_success_at == NOW
    checked = health.succeeded(replace(state, pending_health=PENDING), NOW)
    assert (checked.last_success_at, checked.failures, checked.last_error) == (None, 0, None)
    assert checked.condition_at(NOW) == "checking"


def test_the_way_back_stays_for_a_pending_reload() -> None:
    state = JobState(pending_health=PENDING, undo=UndoInfo("c" * 40))
    assert health.without_check(state) == JobState()
    both = replace(state, pending_reload=PendingReload())
    assert health.without_check(both) == replace(both, pending_health=None)


def test_another_check_begins_the_window_again() -> None:
    opened = replace(PENDING, since=NOW - timedelta(minutes=1), seconds=60.0, passed=12, failed=1)
    state = JobState(applied_commit=COMMIT, applied_config_digest=JOB.digest, pending_health=opened)
    assert health.with_present_config(JOB, state, NOW) == state
    stricter = replace(JOB, health=replace(RULES, failures=1))
    again = health.with_present_config(stricter, state, NOW).pending_health
    assert again == PendingHealth(COMMIT, hook_config_digest(stricter), since=NOW)


def test_another_set_lets_the_window_of_the_present_one_go_on() -> None:
    opened = replace(PENDING, since=NOW, seconds=60.0)
    state = JobState(applied_commit=COMMIT, applied_config_digest="d", pending_health=opened)
    assert health.with_present_config(replace(JOB, mode=0o600), state, NOW) == state
