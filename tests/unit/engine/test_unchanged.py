"""When a job is unchanged without a run: each fact that has to be as the last run left it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.unchanged import UnchangedState, still_unchanged
from syncd.errors import RemoteUnavailableError
from syncd.models import Job, PathRule, RunStatus, Trigger
from syncd.ports import Head, JobState
from syncd.unchanged import Seen, stat_digest
from tests.support.clock import FakeClock

ONE, TWO = "1" * 40, "2" * 40
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
JOB = Job("j", "me", "o/r", "main", (PathRule("x", "/srv/x", True),))
STATE = JobState(applied_commit=ONE, last_success_at=NOW, files=3)
HEAD = Head(ONE, checked_at=NOW.timestamp())
PUBLISHED = replace(HEAD, etag="1")
NOTHING = Seen([], stat_digest([]), {})
KNOWN = UnchangedState(JOB, "api.github.com me", STATE, HEAD, NOTHING)


class Answers:
    """A context of a run: its source answers with one head or error, and counts the questions."""

    def __init__(self, head: Head | Exception, state: JobState, scope: str, now: datetime) -> None:
        self.asked = 0
        self._head = head
        self.clock, self.scope = FakeClock(now), scope
        self.store = SimpleNamespace(state=lambda _: state)
        self.source: Any = self

    def resolve(self, *_: object) -> Head:
        self.asked += 1
        if isinstance(self._head, Exception):
            raise self._head
        return self._head

    def listing_version(self, head: Head) -> str | None:
        return None if head.etag is None else "of an agent's source"


@pytest.mark.parametrize(
    ("changed", "unchanged", "requests"),
    [
        ({}, True, 1),
        ({"state": replace(STATE, last_run_at=NOW, last_success_at=NOW)}, True, 1),
        ({"head": replace(HEAD, commit=TWO)}, False, 1),
        ({"head": RemoteUnavailableError("no network")}, False, 1),
        ({"job": replace(JOB, mode=0o600)}, False, 0),
        ({"scope": "api.github.com other"}, False, 0),
        ({"state": replace(STATE, held=True)}, False, 0),
        ({"state": replace(STATE, failures=1)}, False, 0),
        ({"state": replace(STATE, applied_commit=TWO)}, False, 0),
        ({"seen": Seen([("/no/such/directory", [])], NOTHING.stat_digest, {})}, False, 1),
        ({"seen": Seen([], "another digest", {})}, False, 1),
        ({"now": NOW + timedelta(hours=23)}, True, 1),
        ({"now": NOW + timedelta(hours=24)}, False, 0),
        ({"now": NOW - timedelta(seconds=1)}, False, 0),
        ({"ref": ONE, "head": RemoteUnavailableError("no network")}, True, 0),
        ({"known": PUBLISHED, "head": PUBLISHED}, True, 1),
        ({"known": PUBLISHED, "head": replace(PUBLISHED, etag="2")}, False, 1),
        ({"known": PUBLISHED, "head": PUBLISHED, "ref": ONE}, True, 1),
    ],
)
def test_a_job_is_unchanged_only_where_every_fact_is_as_the_last_run_left_it(
    changed: dict[str, Any], unchanged: bool, requests: int
) -> None:
    job = replace(JOB, ref=changed.get("ref", "main"))
    head = changed.get("known", HEAD)
    known = replace(KNOWN, job=job, head=head, seen=changed.get("seen", NOTHING))
    ctx: Any = Answers(
        changed.get("head", HEAD),
        changed.get("state", STATE),
        changed.get("scope", KNOWN.scope),
        changed.get("now", NOW),
    )
    report = still_unchanged(
        known, changed.get("job", job), ctx, Deadline(ctx.clock, 60), Trigger.SCHEDULE
    )
    assert (report is not None, ctx.asked) == (unchanged, requests)


def test_the_report_is_that_of_a_run_that_found_nothing_to_do() -> None:
    ctx: Any = Answers(HEAD, STATE, KNOWN.scope, NOW)
    report = still_unchanged(KNOWN, JOB, ctx, Deadline(ctx.clock, 60), Trigger.PUSH)
    assert report is not None
    shown = report.status, report.commit, report.previous, report.files, report.trigger
    assert shown == (RunStatus.UNCHANGED, ONE, ONE, 3, Trigger.PUSH)
    assert (report.changes, report.error, report.started_at) == ((), None, NOW)
