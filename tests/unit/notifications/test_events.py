"""Which change of state is told, and in what words: the whole small domain."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from syncd.apply_rules import WaitingCommit
from syncd.errors import AuthError, LimitError, LockedError, StoppedError
from syncd.models import RunReport, RunStatus
from syncd.notifications.events import (
    DRIFT,
    FAILED,
    OK,
    Context,
    Event,
    alert_state,
    body,
    event_for,
    events,
)
from syncd.ports import JobState, Rejection

AT = datetime(2026, 11, 24, 13, 0, tzinfo=timezone(timedelta(hours=1)))


def report(status: RunStatus = RunStatus.CHANGED, **more: Any) -> RunReport:
    return RunReport("nginx", status, "acme/infra", "main", "c" * 40, None, **more)


@pytest.mark.parametrize(
    ("one", "state", "after"),
    [
        (report(), JobState(), OK),
        (report(RunStatus.UNCHANGED), JobState(), OK),
        (report(RunStatus.UNCHANGED), JobState(drift_count=2), DRIFT),
        (report(RunStatus.FAILED, error=AuthError("no")), JobState(), FAILED),
        (report(RunStatus.FAILED, error=AuthError("no")), JobState(drift_count=2), FAILED),
        (report(RunStatus.REFUSED, error=LimitError("no")), JobState(), FAILED),
        (report(reload_pending=True), JobState(), FAILED),
    ],
)
def test_what_a_run_says_of_its_job_whatever_was_told_before(
    one: RunReport, state: JobState, after: str | None
) -> None:
    assert [alert_state(one, state, told) for told in (OK, DRIFT, FAILED)] == [after] * 3


@pytest.mark.parametrize(
    "one",
    [
        report(RunStatus.SKIPPED),
        report(RunStatus.FAILED, error=LockedError("held")),
        report(RunStatus.FAILED, error=StoppedError("stopped")),
    ],
)
def test_a_pause_another_at_work_and_a_signal_say_nothing_of_the_job(one: RunReport) -> None:
    assert [alert_state(one, JobState(drift_count=1), told) for told in (OK, DRIFT, FAILED)] == [
        OK,
        DRIFT,
        FAILED,
    ]


def test_a_job_has_not_recovered_while_the_fix_of_a_rejected_commit_waits() -> None:
    waits = report(RunStatus.WAITING, waiting=WaitingCommit("d" * 40, None, "holidays"))
    rejected = JobState(rejection=Rejection("c" * 40, "", "no"))
    assert [alert_state(waits, rejected, told) for told in (OK, DRIFT, FAILED)] == [OK, OK, FAILED]
    assert [alert_state(waits, JobState(), told) for told in (OK, DRIFT, FAILED)] == [OK, OK, OK]
    assert alert_state(report(), rejected, FAILED) is OK, "after --ref and a rollback"


def test_each_change_of_state_has_its_events_and_no_change_has_none() -> None:
    found = {
        (before, after): events(before, after)
        for before in (OK, DRIFT, FAILED)
        for after in (OK, DRIFT, FAILED)
    }
    assert found == {
        (OK, OK): (),
        (DRIFT, DRIFT): (),
        (FAILED, FAILED): (),
        (OK, FAILED): (Event.FAILED,),
        (DRIFT, FAILED): (Event.FAILED,),
        (OK, DRIFT): (Event.DRIFT,),
        (FAILED, DRIFT): (Event.DRIFT, Event.RECOVERED),
        (FAILED, OK): (Event.RECOVERED,),
        (DRIFT, OK): (Event.RECOVERED,),
    }


def test_one_message_for_each_who_asked_and_the_most_telling_one() -> None:
    both = (Event.DRIFT, Event.RECOVERED)
    assert event_for(both, ["failed", "recovered", "drift"]) is Event.DRIFT
    assert event_for(both, ["failed", "recovered"]) is Event.RECOVERED
    assert event_for(both, ["failed"]) is None and event_for((), ["failed"]) is None


def test_the_message_has_everything_that_its_page_names() -> None:
    found = json.loads(
        body(
            "ab12",
            Event.FAILED,
            Context(
                report(
                    RunStatus.FAILED, error=AuthError("the key is missing\nmore", hint="add it")
                ),
                JobState(drift_count=1),
                "web01",
                AT,
            ),
        )
    )
    assert found == {
        "schema": "syncd.notice/1",
        "id": "ab12",
        "event": "failed",
        "text": "syncd on web01: nginx failed: the key is missing",
        "host": "web01",
        "job": "nginx",
        "repo": "acme/infra",
        "ref": "main",
        "commit": "c" * 40,
        "status": "failed",
        "drifted": 1,
        "author": None,
        "subject": None,
        "changes": 0,
        "files": [],
        "until": None,
        "remedy": "add it",
        "at": "2026-11-24T12:00:00Z",
        "error": {"kind": "auth", "message": "the key is missing\nmore", "hint": "add it"},
    }
    assert AT.astimezone(UTC).hour == 12


@pytest.mark.parametrize(
    ("event", "state", "text"),
    [
        (
            Event.DRIFT,
            JobState(drift_count=1),
            "syncd on web01: nginx has drifted: 1 file or folder differs from what was mirrored",
        ),
        (
            Event.DRIFT,
            JobState(drift_count=3),
            "syncd on web01: nginx has drifted: 3 files or folders differ from what was mirrored",
        ),
        (Event.RECOVERED, JobState(), "syncd on web01: nginx is well again at ccccccc"),
        (Event.FAILED, JobState(), "syncd on web01: nginx failed: on_change is pending"),
    ],
)
def test_the_sentence_says_what_happened(event: Event, state: JobState, text: str) -> None:
    assert json.loads(body("x", event, Context(report(), state, "web01", AT)))["text"] == text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<!channel> look", "‹!channel› look"),
        ("<!here|here>", "‹!here|here›"),
        ("<@U123ABC> and <!subteam^S1>", "‹＠U123ABC› and ‹!subteam^S1›"),
        ("@everyone @here @ada", "＠everyone ＠here ＠ada"),
        ("<@&123456> <at>Ada</at>", "‹＠&123456› ‹at›Ada‹/at›"),
        ("<https://bad.test|the status page>", "‹https://bad.test|the status page›"),
        ("[the status page](https://bad.test)", "[the status page] (https://bad.test)"),
        ("ada <ada@example.test> 3 @ 4", "ada ‹ada＠example.test› 3 @ 4"),
    ],
)
def test_what_a_hook_or_a_server_says_addresses_nobody_in_a_chat(said: str, shown: str) -> None:
    one = report(RunStatus.FAILED, error=AuthError(said, hint=said))
    found = json.loads(body("x", Event.FAILED, Context(one, JobState(), "web01", AT)))
    assert found["text"] == f"syncd on web01: nginx failed: {shown}"
    assert found["error"] == {"kind": "auth", "message": shown, "hint": shown}


def test_a_job_that_is_named_like_a_mention_addresses_nobody_and_keeps_its_name() -> None:
    one = RunReport("@here", RunStatus.CHANGED, "acme/infra", "@channel", "c" * 40, None)
    found = json.loads(body("x", Event.RECOVERED, Context(one, JobState(), "<!channel>", AT)))
    assert found["text"] == "syncd on ‹!channel›: ＠here is well again at ccccccc"
    assert (found["job"], found["ref"]) == ("@here", "@channel"), (
        "what programs compare is as it is"
    )
