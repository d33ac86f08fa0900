"""Which change of a job's state is reported, and the message for it.

A state is reported once. The last reported state is stored with the job, so that daemon and
one-shots agree, and a crash between a run and its message only delays the message to the next run.

Pure: no I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from syncd.errors import LockedError, StoppedError
from syncd.models import CommitSummary, RunReport, RunStatus
from syncd.ports import JobState


class Event(StrEnum):
    """What a message reports."""

    FAILED = "failed"
    RECOVERED = "recovered"
    DRIFT = "drift"
    CHANGED = "changed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    WAITING = "waiting"
    STALE = "stale"


# An endpoint gets one message of a run: the first of these that it subscribes to.
ORDER = (
    Event.ROLLED_BACK,
    Event.REJECTED,
    Event.FAILED,
    Event.STALE,
    Event.DRIFT,
    Event.RECOVERED,
    Event.CHANGED,
    Event.WAITING,
)
# While an endpoint is away, the newest message of each slot of a job waits for it: an older message
# of a state is over, but that a commit was put back is still to be known after the next one.
STATE_SLOT, VERDICT_SLOT, COMMIT_SLOT, STALE_SLOT = "", "@verdict", "@commit", "@stale"
SLOTS = {
    Event.ROLLED_BACK: VERDICT_SLOT,
    Event.REJECTED: VERDICT_SLOT,
    Event.CHANGED: COMMIT_SLOT,
    Event.WAITING: COMMIT_SLOT,
    Event.STALE: STALE_SLOT,
}
MAX_FILES = 20  # that a message names


BRACKETS = str.maketrans("<>", "‹›")  # Slack's and Teams' mentions and named links
MENTION = re.compile(r"@(?=[\w&!])")  # Discord's, and names that Slack is asked to link
NAMED_LINK = re.compile(r"\](?=\()")  # Markdown, as Teams and Discord read it

OK, FAILED, DRIFT = None, "failed", "drift"  # the states that a job can be reported in


class Context(Struct, frozen=True):
    """What a message says beside its event: the run, the job's state after it, this host, the
    time.

    `stale` is why the job is not up to date, for that event.
    """

    report: RunReport
    state: JobState
    host: str
    at: datetime
    stale: str = ""


def alert_state(report: RunReport, state: JobState, reported: str | None) -> str | None:
    """Return the state to report after this run: `OK`, `FAILED` or `DRIFT`.

    A run that was skipped, locked or stopped says nothing, so the state stays as it was reported
    before; and so it does until the health of a change is known. A job whose commit was rejected is
    well again when another commit is applied, not while it waits.
    """
    if report.reload_at is not None and report.error is None:
        return reported  # not yet known: the reload waits for its time
    if report.status is RunStatus.SKIPPED or isinstance(report.error, (LockedError, StoppedError)):
        return reported
    if report.status in (RunStatus.FAILED, RunStatus.REFUSED) or report.reload_pending:
        return FAILED
    if report.checking:
        return reported
    if report.waiting is not None and state.rejection is not None and reported == FAILED:
        return reported  # the fix only waits
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
    return next((event for event in ORDER if event in changed and event.value in when), None)


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
        "commit": _commit(event, context),
        "author": None,
        "subject": None,
        "status": report.status.value,
        "drifted": state.drift_count,
        "changes": len(report.changes),
        "files": [without_mentions(one.path) for one in report.changes[:MAX_FILES]],
        "until": _until(report),
        "remedy": _remedy(event, context),
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


def with_summary(message: dict[str, Any], summary: CommitSummary | None) -> dict[str, Any]:
    """Return the message with the author and the subject of its commit, also in its text."""
    if summary is None:
        return message
    author, subject = without_mentions(summary.author), without_mentions(summary.subject)
    text = f"{message['text']} ({author}: {subject})"
    return {**message, "author": author, "subject": subject, "text": text}


def _commit(event: Event, context: Context) -> str | None:
    report = context.report
    if event is Event.WAITING and report.waiting is not None:
        return report.waiting.commit
    return report.commit or context.state.applied_commit


def _until(report: RunReport) -> str | None:
    until = report.waiting.until if report.waiting is not None else None
    return None if until is None else until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remedy(event: Event, context: Context) -> str | None:
    """Return what an operator can do."""
    job, error = context.report.job, context.report.error
    if error is not None and error.hint:
        return without_mentions(error.hint)
    return {
        Event.ROLLED_BACK: f"syncd resume {job}",
        Event.WAITING: f"to apply it now: syncd sync {job} --now",
        Event.STALE: "syncd doctor",
        Event.DRIFT: f"syncd plan {job} --diff",
    }.get(event)


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
    if event in RUN_SENTENCES:
        return RUN_SENTENCES[event](start, context)
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


def _changed(start: str, context: Context) -> str:
    report = context.report
    files = "1 file" if len(report.changes) == 1 else f"{len(report.changes)} files"
    return f"{start} applied {(report.commit or '')[:7]} of {report.repo}: {files} changed"


def _rolled_back(start: str, context: Context) -> str:
    report, error = context.report, context.report.error
    if error is not None:
        return f"{start} put the previous files back: {error.message.splitlines()[0]}"
    return f"{start} was rolled back to {(report.commit or '')[:7]} by an operator"


def _rejected(start: str, context: Context) -> str:
    error = context.report.error
    reason = error.message.splitlines()[0] if error is not None and error.message else ""
    return f"{start} rejected a commit: {reason}"


def _waiting(start: str, context: Context) -> str:
    waiting = context.report.waiting
    return f"{start}: {waiting.describe() if waiting is not None else 'a commit waits'}"


def _stale(start: str, context: Context) -> str:
    return f"{start} is not up to date: {context.stale}"


RUN_SENTENCES: dict[Event, Callable[[str, Context], str]] = {
    Event.CHANGED: _changed,
    Event.ROLLED_BACK: _rolled_back,
    Event.REJECTED: _rejected,
    Event.WAITING: _waiting,
    Event.STALE: _stale,
}
