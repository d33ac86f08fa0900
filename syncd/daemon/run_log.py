"""Log lines about runs: one for each run that changed something or failed, none for the others.

A failure is logged when it begins, when its reason changes and when it ends. Lasting failures are
logged together, once an hour. So a network outage of days costs one line an hour, whatever the
number of jobs.
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
REMINDER_INTERVAL = timedelta(hours=1)
MAX_REASONS = 20  # of one job while it fails: reasons that take turns are each said once
MAX_NAMED_JOBS = 5
SIGNS = {
    ActionKind.WRITE: "written",
    ActionKind.RESTORE: "put back",
    ActionKind.MODE: "mode",
    ActionKind.REMOVE: "removed",
    ActionKind.KEEP: "left alone",
}


class Failing(Struct):
    """A failure that lasts: its start, its reasons and the number of failed runs."""

    since: datetime
    reasons: set[str] = field(default_factory=set)
    runs: int = 0


class RunLog:
    """Logs runs without repeating itself. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failing: dict[str, Failing] = {}
        self._kept: dict[str, tuple[str, ...]] = {}
        self._last_reminder_at = clock.now()

    def log_run(self, report: RunReport, run: str) -> None:
        """Log one run. `run` is its id; each line has it, the job, repository, commit and request
        id as fields.
        """
        if isinstance(report.error, (LockedError, StoppedError)):
            LOG.info(
                "%s: %s", report.job, report.error.message, extra={"fields": fields_of(report, run)}
            )
            return
        if report.error is not None:
            self._log_failure(report, run)
            return
        failing, fields = self._end_failure(report.job), {"fields": fields_of(report, run)}
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

    def _log_failure(self, report: RunReport, run: str) -> None:
        error = report.error
        if error is None:
            return
        reason = _normalized(f"{error.kind} {error.message}")
        with self._lock:
            failing = self._failing.setdefault(report.job, Failing(self._clock.now()))
            failing.runs += 1
            known = reason in failing.reasons or len(failing.reasons) >= MAX_REASONS
            if len(failing.reasons) < MAX_REASONS:
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

    def _end_failure(self, job: str) -> Failing | None:
        with self._lock:
            return self._failing.pop(job, None)

    def _is_news(self, report: RunReport) -> bool:
        """Return whether the kept files or the notes differ from those of the run before."""
        now = (
            tuple(change.path for change in report.changes if change.action is ActionKind.KEEP)
            + report.notes
        )
        with self._lock:
            before = self._kept.get(report.job, ())
            if now:
                self._kept[report.job] = now
            else:
                self._kept.pop(report.job, None)
        return bool(now) and now != before

    def forget(self, job: str) -> None:
        """Forget a job that is not configured any more."""
        with self._lock:
            self._failing.pop(job, None)
            self._kept.pop(job, None)

    def log_still_failing(self) -> None:
        """Log once an hour which jobs have been failing since the hour before."""
        now = self._clock.now()
        with self._lock:
            if abs(now - self._last_reminder_at) < REMINDER_INTERVAL:
                return
            lasting = sorted(
                (failing.since, job)
                for job, failing in self._failing.items()
                if failing.since <= self._last_reminder_at
            )
            self._last_reminder_at = now
        if lasting:
            names = ", ".join(job for _, job in lasting[:MAX_NAMED_JOBS]) + (
                f" and {len(lasting) - MAX_NAMED_JOBS} more"
                if len(lasting) > MAX_NAMED_JOBS
                else ""
            )
            LOG.warning(
                "still failing: %s; the longest since %s",
                names,
                f"{lasting[0][0]:%Y-%m-%dT%H:%M:%SZ}",
            )


def fields_of(report: RunReport, run: str) -> dict[str, str]:
    """Return the fields for journald beside the message.

    Source: systemd.journal-fields(7): names of one's own begin with the program's name.
    """
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
    """Return the counts of changes, such as `3 written, 1 removed`."""
    return ", ".join(
        f"{count} {sign}"
        for verb, sign in SIGNS.items()
        if (count := sum(change.action is verb for change in report.changes))
    )


def _notes(report: RunReport) -> str:
    return "".join(f"; {note}" for note in report.notes)


def _normalized(text: str) -> str:
    """Return the text without what differs each time: numbers and ids."""
    return re.sub(r"\b[0-9a-f]{7,64}\b|\d+", "#", text)


__all__ = ["RunLog", "counts", "fields_of"]
