"""Which change of a job's state is reported, and the message for it.

A state is reported once. The last reported state is stored with the job, so that daemon and
one-shots agree, and a crash between a run and its message only delays the message to the next run.

Pure: no I/O.
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
    """What a message reports."""

    FAILED = "failed"
    RECOVERED = "recovered"
    DRIFT = "drift"


BRACKETS = str.maketrans("<>", "‹›")  # Slack's and Teams' mentions and named links
MENTION = re.compile(r"@(?=[\w&!])")  # Discord's, and names that Slack is asked to link
NAMED_LINK = re.compile(r"\](?=\()")  # Markdown, as Teams and Discord read it

OK, FAILED, DRIFT = None, "failed", "drift"  # the states that a job can be reported in


class Context(Struct, frozen=True):
    """What a message says beside its event: the run, the job's state after it, this host, the
    time.
    """

    report: RunReport
    state: JobState
    host: str
    at: datetime


def alert_state(report: RunReport, state: JobState, reported: str | None) -> str | None:
    """Return the state to report after this run: `OK`, `FAILED` or `DRIFT`.

    A run that was skipped, locked or stopped says nothing, so the state stays as it was reported
    before; and so it does until the health of a change is known.
    """
    if report.reload_at is not None and report.error is None:
        return reported  # not yet known: the reload waits for its time
    if report.status is RunStatus.SKIPPED or isinstance(report.error, (LockedError, StoppedError)):
        return reported
    if report.status in (RunStatus.FAILED, RunStatus.REFUSED) or report.reload_pending:
        return FAILED
    if report.checking:
        return reported
    return DRIFT if state.drift_count else OK


def events(before: str | None, after: str | None) -> tuple[Event, ...]:
    """Return the events of a change of state, the most important first; none for no change."""
    if before == after:
        return ()
    if after == FAILED:
        return (Event.FAILED,)
    if after == DRIFT:
        return (Event.DRIFT, Event.RECOVERED) if before == FAILED else (Event.DRIFT,)
    return (Event.RECOVERED,)


def event_for(changed: Sequence[Event], when: Sequence[str]) -> Event | None:
    """Return the one event to send to an endpoint that subscribes to the events `when`; None for
    none.
    """
    return next((event for event in changed if event.value in when), None)


def body(message_id: str, event: Event, context: Context) -> str:
    """Return the JSON to post. `text` is a sentence for chat systems, which show only that."""
    report, state, error = context.report, context.state, context.report.error
    value: dict[str, Any] = {
        "schema": "syncd.notice/1",
        "id": message_id,
        "event": event.value,
        "text": without_mentions(_sentence(event, context)),
        "host": context.host,
        "job": report.job,
        "repo": report.repo,
        "ref": report.ref,
        "commit": report.commit or state.applied_commit,
        "status": report.status.value,
        "drifted": state.drift_count,
        "at": context.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "error": None
        if error is None
        else {
            "kind": error.kind,
            "message": without_mentions(error.message),
            "hint": without_mentions(error.hint) if error.hint else None,
        },
    }
    return json.dumps(value)


def without_mentions(text: str) -> str:
    """Return the text without what a chat system would act on: mentions, and links under another
    name.

    Hooks, servers and commits put text into messages. The characters are replaced by others that
    look alike, because each chat system has an escape of its own, and one message goes to any of
    them.
    """
    return NAMED_LINK.sub("] ", MENTION.sub("＠", text.translate(BRACKETS)))


def _sentence(event: Event, context: Context) -> str:
    report, state = context.report, context.state
    start = f"syncd on {context.host}: {report.job}"
    if event is Event.FAILED:
        reason = "on_change is pending"
        if report.error is not None and report.error.message:
            reason = report.error.message.splitlines()[0]
        return f"{start} failed: {reason}"
    if event is Event.DRIFT:
        files = f"{state.drift_count} files or folders differ"
        if state.drift_count == 1:
            files = "1 file or folder differs"
        return f"{start} has drifted: {files} from what was mirrored"
    return f"{start} is well again" + (f" at {report.commit[:7]}" if report.commit else "")
