"""Which events a single run has, and which status it calls for on its commit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from syncd.apply_rules import WaitingCommit
from syncd.errors import HookFailedError, LimitError, RemoteUnavailableError, UntrustedError
from syncd.models import RunReport, RunStatus, Trigger
from syncd.notifications.commit_status import status_of
from syncd.notifications.events import Event
from syncd.notifications.reported import Reported
from syncd.notifications.run_events import run_events
from syncd.ports import JobState

NEW, OLD = "b" * 40, "a" * 40
AT = datetime(2026, 11, 30, 8, tzinfo=UTC)
CHANGED, UNCHANGED, REFUSED = RunStatus.CHANGED, RunStatus.UNCHANGED, RunStatus.REFUSED
REJECTED = HookFailedError("no", rejected=True, commit=NEW, id="hook/commit-rejected")
UNDONE = HookFailedError("undone", rejected=True, commit=NEW, id="hook/change-undone")
UNHEALTHY = HookFailedError("ill", rejected=True, commit=NEW, id="hook/not-healthy")
UNTRUSTED = UntrustedError("unsigned", commit=NEW)
AWAY = RemoteUnavailableError("away")
LIMIT = LimitError("too many")
WAITS = WaitingCommit(NEW, None, "holidays")


def report(status: RunStatus, commit: str | None = NEW, **more: Any) -> RunReport:
    return RunReport("nginx", status, "acme/infra", "main", commit, OLD, **more)


@pytest.mark.parametrize(
    ("run", "marks", "events", "left"),
    [
        (report(CHANGED), {}, (Event.CHANGED,), {}),
        (report(CHANGED, OLD), {}, (), {}),
        (report(UNCHANGED), {}, (), {}),
        (report(CHANGED, trigger=Trigger.ROLLBACK), {}, (Event.ROLLED_BACK,), {}),
        (report(REFUSED, error=REJECTED), {}, (Event.REJECTED,), {"rejected": NEW}),
        (report(REFUSED, error=REJECTED), {"rejected": NEW}, (), {"rejected": NEW}),
        (report(REFUSED, error=REJECTED), {"rejected": OLD}, (Event.REJECTED,), {"rejected": NEW}),
        (report(REFUSED, error=UNTRUSTED), {}, (Event.REJECTED,), {"rejected": NEW}),
        (
            report(REFUSED, error=UNDONE),
            {},
            (Event.ROLLED_BACK, Event.REJECTED),
            {"rejected": NEW},
        ),
        (
            report(REFUSED, error=UNHEALTHY),
            {},
            (Event.ROLLED_BACK, Event.REJECTED),
            {"rejected": NEW},
        ),
        (report(RunStatus.FAILED, error=AWAY), {"stale": "1"}, (), {"stale": "1"}),
        (report(CHANGED), {"stale": "1", "rejected": OLD}, (Event.CHANGED,), {}),
        (report(UNCHANGED, OLD, waiting=WAITS), {}, (Event.WAITING,), {"waiting": NEW}),
        (report(UNCHANGED, OLD, waiting=WAITS), {"waiting": NEW}, (), {"waiting": NEW}),
        (
            report(UNCHANGED, OLD, waiting=WAITS),
            {"rejected": OLD},
            (Event.WAITING,),
            {"waiting": NEW, "rejected": OLD},
        ),
        (report(CHANGED), {"waiting": NEW}, (Event.CHANGED,), {}),
        (report(RunStatus.SKIPPED), {"waiting": NEW}, (), {"waiting": NEW}),
    ],
)
def test_each_run_has_its_events_once(
    run: RunReport, marks: dict[str, str], events: tuple[Event, ...], left: dict[str, str]
) -> None:
    assert run_events(run, Reported(None, marks)) == (events, Reported(None, left))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (report(CHANGED, files=2), (NEW, "success", "applied: 2 files")),
        (report(UNCHANGED, files=1), (NEW, "success", "applied: 1 file")),
        (report(UNCHANGED, OLD), None),
        (report(CHANGED, reload_pending=True), (NEW, "pending", "on_change has not succeeded yet")),
        (
            report(CHANGED, reload_pending=True, reload_at=AT, checking=True),
            (NEW, "pending", "applied, and on_change waits until 2026-11-30T08:00:00Z"),
        ),
        (
            report(CHANGED, checking=True),
            (NEW, "pending", "applied, and its health is being checked"),
        ),
        (report(UNCHANGED, OLD, waiting=WAITS), (NEW, "pending", "waits to be applied: holidays")),
        (report(REFUSED, error=REJECTED), (NEW, "failure", "no")),
        (report(REFUSED, None, error=LIMIT), None),
        (report(RunStatus.FAILED, error=AWAY), None),
        (report(RunStatus.SKIPPED), None),
        (
            report(CHANGED, "c" * 40, trigger=Trigger.ROLLBACK),
            (OLD, "failure", "rolled back to ccccccc by an operator"),
        ),
        (report(UNCHANGED, OLD, trigger=Trigger.ROLLBACK), None),
    ],
)
def test_each_run_calls_for_its_status(
    run: RunReport, expected: tuple[str, str, str] | None
) -> None:
    found = status_of(run, JobState(applied_commit=NEW))
    assert (found and (found.commit, found.state, found.description)) == expected
