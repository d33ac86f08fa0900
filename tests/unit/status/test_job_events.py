"""What `syncd watch` says of two readings of the store: each row is one thing that happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.ports import (
    JobState,
    LastError,
    Pause,
    PendingHealth,
    PendingReload,
    Rejection,
)
from syncd.status import JobWarning
from syncd.status.job_events import EVENTS, JobReading, job_events
from syncd.store.new_runs import NewRun

NOW = datetime(2026, 11, 30, 8, 0, 5, tzinfo=UTC)
OLD, NEW = "a" * 40, "b" * 40
WELL = JobState(applied_commit=OLD, last_success_at=NOW)
AFTER = JobState(applied_commit=NEW, last_success_at=NOW)
FAILED = JobState(
    applied_commit=OLD, failures=1, last_error=LastError("auth", "no\nway", "auth/x", "do it")
)
OTHER = JobState(applied_commit=OLD, failures=2, last_error=LastError("auth", "bad", "auth/y"))
REJECTED = JobState(
    applied_commit=OLD, failures=1, last_error=FAILED.last_error, rejection=Rejection(NEW, "d")
)
CHECKING = JobState(applied_commit=NEW, pending_health=PendingHealth(NEW, "d", since=NOW))
PENDING = JobState(applied_commit=NEW, last_success_at=NOW, pending_reload=PendingReload(NEW))
WAITING = JobState(
    applied_commit=OLD,
    last_success_at=NOW,
    waiting=WaitingCommit(NEW, NOW, "closed"),
)
FIX_WAITS = replace(WAITING, rejection=REJECTED.rejection)
OTHER_CONFIG = replace(  # the configuration of a job was changed, and that was put back
    REJECTED, applied_commit=NEW, applied_config_digest="before"
)
PAUSED = JobState(applied_commit=OLD, pause=Pause("maintenance"))
HELD = JobState(applied_commit=OLD, held=True)
DRIFT = JobState(applied_commit=OLD, last_success_at=NOW, drift_count=2)


def run(status: str, trigger: str = "push", error: str | None = None, **changes: int) -> NewRun:
    return NewRun(
        7, "nginx", "2026-11-30T08:00:01+00:00", trigger, status, NEW, 2.0, error, changes
    )


START = "08:00:01 started: "
WAITS = (
    "08:00:05 waiting: commit bbbbbbb waits until 2026-11-30T08:00:05Z: closed"
    " → syncd sync nginx --now"
)


@pytest.mark.parametrize(
    ("before", "after", "runs", "said"),
    [
        (WELL, WELL, [], []),
        (WELL, (WELL, True), [], ["08:00:05 started: "]),
        ((WELL, True), (WELL, True), [], []),
        ((WELL, True), WELL, [], ["08:00:05 unchanged: "]),
        (
            WELL,
            AFTER,
            [run("changed", write=3, remove=1)],
            [START, "08:00:03 changed: 3 written, 1 removed at bbbbbbb (push)"],
        ),
        (
            (WELL, True),
            AFTER,
            [run("changed", "schedule", restore=1)],
            ["08:00:03 changed: 1 put back at bbbbbbb (schedule)"],
        ),
        (
            WELL,
            (WELL, True),
            [run("changed", write=1)],
            [START, "08:00:03 changed: 1 written at bbbbbbb (push)", "08:00:05 started: "],
        ),
        (
            WELL,
            HELD,
            [run("changed", "rollback", write=2)],
            [
                START,
                "08:00:03 rolled_back: 2 written at bbbbbbb (rollback)",
                "08:00:05 paused: held after a rollback → syncd resume nginx",
            ],
        ),
        (WELL, FAILED, [run("failed", error="no\nway")], [START, "08:00:03 failed: no"]),
        (
            WELL,
            FAILED,
            [run("refused", error="no", write=1)],
            [START, "08:00:03 failed: 1 written, then no"],
        ),
        (WELL, FAILED, [], ["08:00:05 failed: no → do it"]),
        (FAILED, FAILED, [], []),
        ((FAILED, True), FAILED, [], ["08:00:05 failed: no → do it"]),
        (FAILED, OTHER, [], ["08:00:05 failed: bad"]),
        (FAILED, WELL, [], ["08:00:05 recovered: "]),
        (
            CHECKING,
            REJECTED,
            [run("refused", error="unhealthy", write=1)],
            [
                START,
                "08:00:03 failed: 1 written, then unhealthy",
                "08:00:05 rejected: commit bbbbbbb is not tried again",
                "08:00:05 rolled_back: back to aaaaaaa",
            ],
        ),
        (
            WELL,
            REJECTED,
            [],
            [
                "08:00:05 rejected: commit bbbbbbb is not tried again",
                "08:00:05 failed: no → do it",
            ],
        ),
        (REJECTED, REJECTED, [], []),
        (REJECTED, FIX_WAITS, [], [WAITS]),
        (FIX_WAITS, AFTER, [], ["08:00:05 recovered: "]),
        (
            CHECKING,
            OTHER_CONFIG,
            [],
            [
                "08:00:05 rejected: commit bbbbbbb is not tried again",
                "08:00:05 rolled_back: back to the files of the configuration before it",
                "08:00:05 failed: no → do it",
            ],
        ),
        (WELL, CHECKING, [], ["08:00:05 checking: the health of commit bbbbbbb is being checked"]),
        (CHECKING, (CHECKING, True), [], []),
        ((CHECKING, True), CHECKING, [], []),
        (CHECKING, AFTER, [], ["08:00:05 healthy: commit bbbbbbb"]),
        (AFTER, PENDING, [], ["08:00:05 reload_pending: on_change has not succeeded yet"]),
        (PENDING, AFTER, [], ["08:00:05 reloaded: "]),
        (
            WELL,
            WAITING,
            [],
            [WAITS],
        ),
        (WAITING, WAITING, [], []),
        (WELL, PAUSED, [], ["08:00:05 paused: maintenance → syncd resume nginx"]),
        (PAUSED, WELL, [], ["08:00:05 resumed: "]),
        (
            WELL,
            DRIFT,
            [],
            ["08:00:05 drift: 2 files or folders differ → syncd plan nginx --diff"],
        ),
        (DRIFT, DRIFT, [], []),
        (DRIFT, WELL, [], []),
    ],
)
def test_two_readings_tell_what_happened_in_between(
    before: JobState | tuple[JobState, bool],
    after: JobState | tuple[JobState, bool],
    runs: list[NewRun],
    said: list[str],
) -> None:
    found = job_events("nginx", _reading(before), _reading(after), runs, NOW)
    assert [
        f"{one.at:%H:%M:%S} {one.event}: {one.text}" + (f" → {one.hint}" if one.hint else "")
        for one in found
    ] == said
    assert {one.event for one in found} <= set(EVENTS)


def test_a_new_warning_is_an_event_once() -> None:
    late = JobReading(WELL, warnings=(JobWarning("delivery_missed", "no delivery", "look"),))
    found = job_events("nginx", JobReading(WELL), late, [], NOW)
    assert [(one.event, one.text, one.hint) for one in found] == [("stale", "no delivery", "look")]
    assert job_events("nginx", late, late, [], NOW) == []
    assert job_events("nginx", late, JobReading(WELL), [], NOW) == []


def _reading(given: JobState | tuple[JobState, bool]) -> JobReading:
    return JobReading(*given) if isinstance(given, tuple) else JobReading(given)


def test_an_event_is_one_json_object() -> None:
    (event,) = job_events("nginx", JobReading(FAILED), JobReading(WELL), [], NOW)
    assert event.to_json() == {
        "schema": "syncd.event/1",
        "at": "2026-11-30T08:00:05Z",
        "job": "nginx",
        "event": "recovered",
        "text": "",
        "commit": OLD,
        "hint": None,
    }
