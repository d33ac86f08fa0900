"""PURE: which change of a job's state somebody is told of, in what words.

A state is told once: what was told last is kept with the job, so that daemon and one-shots agree, and a crash between a run and its
message only delays the message to the next run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from syncd.errors import LockedError, StoppedError
from syncd.models import RunReport, RunStatus
from syncd.ports import JobState


class Event(StrEnum):
    FAILED = "failed"
    RECOVERED = "recovered"
    DRIFT = "drift"


BRACKETS = str.maketrans("<>", "‹›")  # Slack's and Teams' mentions and named links
MENTION = re.compile(r"@(?=[\w&!])")  # Discord's, and names that Slack is asked to link
NAMED_LINK = re.compile(r"\](?=\()")  # Markdown, as Teams and Discord read it

WELL, FAILED, DRIFT = None, "failed", "drift"  # what a job's state can be told as


class Notice(Struct, frozen=True):
    """One message about one job. `id` lets a receiver know a message that came twice."""

    id: str
    job: str
    event: Event
    body: str


def alert_state(report: RunReport, state: JobState, told: str | None) -> str | None:
    """What is to be told of the job after this run; as before where the run says nothing of that: paused, another's turn, stopped."""
    if report.status is RunStatus.SKIPPED or isinstance(report.error, (LockedError, StoppedError)):
        return told
    if report.status in (RunStatus.FAILED, RunStatus.REFUSED) or report.reload_pending:
        return FAILED
    return DRIFT if state.drifted else WELL


def events(before: str | None, after: str | None) -> tuple[Event, ...]:
    """What the change means, the most telling first; nothing for no change."""
    if before == after:
        return ()
    if after == FAILED:
        return (Event.FAILED,)
    if after == DRIFT:
        return (Event.DRIFT, Event.RECOVERED) if before == FAILED else (Event.DRIFT,)
    return (Event.RECOVERED,)


def event_for(changed: Sequence[Event], when: Sequence[str]) -> Event | None:
    """The one message that somebody gets who asked for `when`."""
    return next((event for event in changed if event.value in when), None)


def body(
    identity: str, event: Event, report: RunReport, state: JobState, host: str, at: datetime
) -> str:
    """The JSON that is posted. `text` is a sentence for chat systems that show one."""
    error = report.error
    value: dict[str, Any] = {
        "schema": "syncd.notice/1",
        "id": identity,
        "event": event.value,
        "text": plain(_sentence(event, report, state, host)),
        "host": host,
        "job": report.job,
        "repo": report.repo,
        "ref": report.ref,
        "commit": report.commit or state.applied_commit,
        "status": report.status.value,
        "drifted": state.drifted,
        "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "error": None
        if error is None
        else {
            "kind": error.kind,
            "message": plain(error.message),
            "hint": plain(error.hint) if error.hint else None,
        },
    }
    return json.dumps(value)


def plain(text: str) -> str:
    """The text so that a chat system shows it and does not obey it: no mention, no link under another name.

    Hooks, servers and commits have a say in it. The signs are replaced by others that look alike, because each chat
    system has an escape of its own, and one message goes to any of them.
    """
    return NAMED_LINK.sub("] ", MENTION.sub("＠", text.translate(BRACKETS)))


def _sentence(event: Event, report: RunReport, state: JobState, host: str) -> str:
    if event is Event.FAILED:
        reason = (
            report.error.message.splitlines()[0]
            if report.error is not None and report.error.message
            else "on_change is owed"
        )
        return f"syncd on {host}: {report.job} failed: {reason}"
    if event is Event.DRIFT:
        files = (
            "1 file or folder differs"
            if state.drifted == 1
            else f"{state.drifted} files or folders differ"
        )
        return f"syncd on {host}: {report.job} has drifted: {files} from what was mirrored"
    return f"syncd on {host}: {report.job} is well again" + (
        f" at {report.commit[:7]}" if report.commit else ""
    )
