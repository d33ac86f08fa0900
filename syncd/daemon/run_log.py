"""What the log says of runs: one line for each that changed something or failed, none for a quiet one, and a lasting failure once.

A failure is said when it begins and when its reason becomes another one; that it lasts is said together for all jobs, once an hour; that
it is over, once. So a network that is away for days costs a line an hour, whatever the number of jobs.
"""

from __future__ import annotations

import logging
import re
import threading
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field

from syncd.clock import Clock
from syncd.errors import LockedError, StoppedError
from syncd.models import ActionKind, RunReport, RunStatus

LOG = logging.getLogger("syncd.job")
REMINDER = timedelta(hours=1)
REASONS_KEPT = 20  # of one job while it fails: reasons that take turns are each said once
NAMED = 5
SIGNS = {
    ActionKind.WRITE: "written",
    ActionKind.RESTORE: "put back",
    ActionKind.MODE: "mode",
    ActionKind.REMOVE: "removed",
    ActionKind.KEEP: "left alone",
}


class Failing(Struct):
    since: datetime
    reasons: set[str] = field(default_factory=set)
    runs: int = 0


class RunLog:
    """Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._failing: dict[str, Failing] = {}
        self._left_alone: dict[str, tuple[str, ...]] = {}
        self._reminded_at = clock.now()

    def tell(self, report: RunReport, run: str) -> None:
        """The lines that this run is worth. `run` is its id; every line carries it, the job, repository, commit and GitHub's request id as fields."""
        if isinstance(report.error, (LockedError, StoppedError)):
            LOG.info(
                "%s: %s", report.job, report.error.message, extra={"fields": fields_of(report, run)}
            )
            return
        if report.error is not None:
            self._fails(report, run)
            return
        failing, fields = self._over(report.job), {"fields": fields_of(report, run)}
        after = (
            f"; it had failed {failing.runs} times since {failing.since:%Y-%m-%dT%H:%M:%SZ}"
            if failing is not None and report.status is not RunStatus.SKIPPED
            else ""
        )
        new = self._is_news(report)
        if report.status is RunStatus.CHANGED:
            LOG.info(
                "%s: %s at %s in %.1f s%s%s",
                report.job,
                counts(report),
                (report.commit or "")[:7],
                report.seconds,
                _notes(report),
                after,
                extra=fields,
            )
        elif after:
            LOG.info(
                "%s: in sync again at %s%s%s",
                report.job,
                (report.commit or "")[:7],
                _notes(report),
                after,
                extra=fields,
            )
        elif new:
            LOG.info(
                "%s: %s%s",
                report.job,
                counts(report) or report.status.value,
                _notes(report),
                extra=fields,
            )
        else:
            LOG.debug(
                "%s: %s in %.3f s", report.job, report.status.value, report.seconds, extra=fields
            )

    def _fails(self, report: RunReport, run: str) -> None:
        error = report.error
        if error is None:
            return
        reason = _squashed(f"{error.kind} {error.message}")
        with self._guard:
            failing = self._failing.setdefault(report.job, Failing(self._clock.now()))
            failing.runs += 1
            known = reason in failing.reasons or len(failing.reasons) >= REASONS_KEPT
            if len(failing.reasons) < REASONS_KEPT:
                failing.reasons.add(reason)
        changed = f"{counts(report)}, then " if report.changes else ""
        hint = f" → {error.hint}" if error.hint else ""
        level = (
            logging.DEBUG
            if known and not changed
            else logging.WARNING
            if report.status is RunStatus.REFUSED
            else logging.ERROR
        )
        LOG.log(
            level,
            "%s: %s%s%s%s",
            report.job,
            changed,
            error.message,
            hint,
            _notes(report),
            extra={"fields": fields_of(report, run)},
        )

    def _over(self, job: str) -> Failing | None:
        with self._guard:
            return self._failing.pop(job, None)

    def _is_news(self, report: RunReport) -> bool:
        """Files that a policy leaves alone, or a pause, are said when they begin."""
        now = (
            tuple(change.path for change in report.changes if change.action is ActionKind.KEEP)
            + report.notes
        )
        with self._guard:
            before = self._left_alone.get(report.job, ())
            if now:
                self._left_alone[report.job] = now
            else:
                self._left_alone.pop(report.job, None)
        return bool(now) and now != before

    def forget(self, job: str) -> None:
        with self._guard:
            self._failing.pop(job, None)
            self._left_alone.pop(job, None)

    def remind(self) -> None:
        """Once an hour: who has been failing all the time since the last one."""
        now = self._clock.now()
        with self._guard:
            if abs(now - self._reminded_at) < REMINDER:
                return
            lasting = sorted(
                (failing.since, job)
                for job, failing in self._failing.items()
                if failing.since <= self._reminded_at
            )
            self._reminded_at = now
        if lasting:
            names = ", ".join(job for _, job in lasting[:NAMED]) + (
                f" and {len(lasting) - NAMED} more" if len(lasting) > NAMED else ""
            )
            LOG.warning(
                "still failing: %s; the longest since %s",
                names,
                f"{lasting[0][0]:%Y-%m-%dT%H:%M:%SZ}",
            )


def fields_of(report: RunReport, run: str) -> dict[str, str]:
    """What journald is told beside the message; see systemd.journal-fields(7): names of our own begin with our name."""
    found: dict[str, Any] = {
        "SYNCD_JOB": report.job,
        "SYNCD_REPO": report.repo,
        "SYNCD_REF": report.ref,
        "SYNCD_COMMIT": report.commit,
        "SYNCD_RUN": run,
        "SYNCD_STATUS": report.status.value,
        "SYNCD_TRIGGER": report.trigger.value,
        "SYNCD_ERROR": report.error.kind if report.error else None,
        "SYNCD_REQUEST_ID": report.error.request_id if report.error else None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def counts(report: RunReport) -> str:
    """`3 written, 1 removed`."""
    return ", ".join(
        f"{count} {sign}"
        for verb, sign in SIGNS.items()
        if (count := sum(change.action is verb for change in report.changes))
    )


def _notes(report: RunReport) -> str:
    return "".join(f"; {note}" for note in report.notes)


def _squashed(text: str) -> str:
    """The text without what differs each time: numbers and ids."""
    return re.sub(r"\b[0-9a-f]{7,64}\b|\d+", "#", text)


__all__ = ["RunLog", "counts", "fields_of"]
