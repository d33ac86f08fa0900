"""Events of single runs: a commit was applied, rejected, taken back, or waits.

They are reported beside the changes of a job's state (events.py), each once for a commit. Pure: no
I/O.
"""

from __future__ import annotations

from syncd.errors import HookFailedError, SyncdError, UntrustedError
from syncd.models import RunReport, RunStatus, Trigger
from syncd.notifications.events import COMMIT_SLOT, STALE_SLOT, Event
from syncd.notifications.reported import Reported

STALE_MARK = "stale"  # of a job that was reported as not up to date
PUT_BACK = ("hook/change-undone", "hook/not-healthy")  # ids of errors after which it is


def run_events(report: RunReport, before: Reported) -> tuple[tuple[Event, ...], Reported]:
    """Return the events of the run, the most important first, and what is reported after it."""
    if report.status is RunStatus.SKIPPED:
        return (), before
    after = before.with_mark("waiting", report.waiting.commit if report.waiting else None)
    if report.error is None:
        after = after.with_mark(STALE_MARK, None)
    rejected = _rejected(report.error)
    if rejected is not None:
        if before.marks.get("rejected") == rejected:
            return (), after
        put_back = report.error is not None and report.error.id in PUT_BACK
        first = (Event.ROLLED_BACK,) if put_back else ()
        return (*first, Event.REJECTED), after.with_mark("rejected", rejected)
    if report.error is not None:
        return (), after
    if report.waiting is None:  # else the rejected commit may come back
        after = after.with_mark("rejected", None)
    if report.status is RunStatus.CHANGED and report.commit != report.previous:
        rollback = report.trigger is Trigger.ROLLBACK
        return (Event.ROLLED_BACK if rollback else Event.CHANGED,), after
    if report.waiting is not None and before.marks.get("waiting") != report.waiting.commit:
        return (Event.WAITING,), after
    return (), after


def outdated_slots(before: Reported, after: Reported) -> tuple[str, ...]:
    """Return the slots whose message, if it still waits to be sent, is not true any more."""
    slots = {"waiting": COMMIT_SLOT, STALE_MARK: STALE_SLOT}
    return tuple(
        slot for mark, slot in slots.items() if mark in before.marks and mark not in after.marks
    )


def _rejected(error: SyncdError | None) -> str | None:
    """Return the commit that the error is a verdict on."""
    if isinstance(error, UntrustedError):
        return error.commit
    if isinstance(error, HookFailedError) and error.rejected:
        return error.commit
    return None
