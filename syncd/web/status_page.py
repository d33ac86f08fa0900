"""Status page as values: one sentence on top, then the jobs, the worst first.

Pure: no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.recent_runs import RecentChange, RecentRun
from syncd.status import (
    CONDITIONS,
    JobSnapshot,
    StatusSnapshot,
    ago,
    delivery_problem,
    duration,
    reasons_of,
    remedy_of,
    rfc3339,
    webhook_line,
)

SIGNS = {
    "failing": "✕",
    "drift": "!",
    "paused": "‖",
    "checking": "…",
    "never": "·",
    "waiting": "◷",
    "in_sync": "✓",
}
WORDS = {
    "failing": "failing",
    "drift": "drift",
    "paused": "paused",
    "checking": "checking",
    "never": "not yet run",
    "waiting": "waiting",
    "in_sync": "in sync",
}
STATE_PHRASES = {
    "failing": ("is failing", "are failing"),
    "drift": ("has drifted", "have drifted"),
    "paused": ("is paused", "are paused"),
    "checking": ("is being checked", "are being checked"),
    "never": ("has not run yet", "have not run yet"),
    "waiting": ("waits for its window", "wait for their window"),
}


MAX_NAME_CHARACTERS = 500
MAX_TEXT_CHARACTERS = 4000


class When(Struct, frozen=True):
    """A moment as text for people and, in `exact`, for machines."""

    text: str
    exact: str | None


class Row(Struct, frozen=True):
    """One job in the table."""

    name: str
    word: str
    sign: str
    shown: str
    source: str
    mirrors: tuple[str, ...]
    commit: str | None
    files: int
    success: When
    following: When
    remarks: tuple[str, ...]


class Limit(Struct, frozen=True):
    """One hourly limit."""

    identity: str
    limit: int
    remaining: int
    resets: When


class Run(Struct, frozen=True):
    """One finished run, as the status page shows it.

    `moved` says from which commit to which, `counted` what it did in one word or two; `changes`
    are as they were read.
    """

    job: str
    good: bool
    when: When
    moved: str
    counted: str
    error: str | None
    changes: tuple[RecentChange, ...]
    more: int


class View(Struct, frozen=True):
    """Everything that the template shows."""

    title: str
    good: bool
    at: str
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]
    troubles: tuple[str, ...]
    runs: tuple[Run, ...]
    webhook: str | None = None
    hidden: int = 0


def view(readings: StatusSnapshot, recent: Sequence[RecentRun]) -> View:
    """Return the page of a snapshot."""
    rows = sorted(
        (_row(one, readings.at) for one in readings.jobs),
        key=lambda row: CONDITIONS.index(row.word),
    )
    limits = tuple(
        Limit(one.name, one.view.limit, one.view.remaining, _in(one.view.reset_at, readings.at))
        for one in readings.rate_limits
        if one.view.limit is not None and one.view.remaining is not None
    )
    troubles = tuple(
        text for one in readings.deliveries if (text := delivery_problem(one)) is not None
    )
    counted = Counter(one.condition for one in readings.jobs)
    runs, webhook = (
        tuple(_run(one, readings.at) for one in recent),
        None if readings.webhook is None else webhook_line(readings.webhook, readings.at),
    )
    return View(
        summary(counted),
        counted["failing"] + counted["drift"] == 0,
        rfc3339(readings.at) or "",
        tuple(rows),
        limits,
        troubles,
        runs,
        webhook,
    )


def shortened(whole: View) -> View:
    """Return the page without the last runs, or without the better half of the jobs."""
    if whole.runs:
        return replace(whole, runs=())
    kept = whole.rows[: len(whole.rows) // 2]
    return replace(whole, rows=kept, hidden=whole.hidden + len(whole.rows) - len(kept))


def _cut(text: str, longest: int) -> str:
    """Return the beginning and the end of a long text: the end of a path or output says more than
    its middle.
    """
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}"


def summary(counted: Counter[str]) -> str:
    """Return one sentence, the worst first: `1 of 4 jobs is failing, 1 has drifted`."""
    total, jobs = counted.total(), "job" if counted.total() == 1 else "jobs"
    odd = [word for word in CONDITIONS if word != "in_sync" and counted[word]]
    if not odd:
        return {1: "The job is in sync", 2: "Both jobs are in sync"}.get(
            total, f"All {total} jobs are in sync"
        )
    said = [f"{counted[word]} {STATE_PHRASES[word][counted[word] > 1]}" for word in odd]
    said[0] = said[0].replace(" ", f" of {total} {jobs} ", 1)
    return ", ".join(said)


def _row(one: JobSnapshot, now: datetime) -> Row:
    job, state = one.job, one.state
    mirrors = tuple(
        _cut(rule.to + ("/" if rule.directory else ""), MAX_NAME_CHARACTERS) for rule in job.paths
    )
    following = (
        When("running now", None)
        if one.running
        else When("when resumed", None)
        if one.condition == "paused"
        else _in(one.next_run, now)
    )
    return Row(
        job.name,
        one.condition,
        SIGNS[one.condition],
        WORDS[one.condition],
        f"{job.repo}@{job.ref or 'HEAD'}",
        mirrors,
        state.applied_commit,
        one.files,
        When(ago(state.last_success_at, now), rfc3339(state.last_success_at)),
        following,
        _remarks(one, now),
    )


def _remarks(one: JobSnapshot, now: datetime) -> tuple[str, ...]:
    """Return why the job is not in sync, then what to do about it."""
    found = [_cut(reason, MAX_TEXT_CHARACTERS) for reason in reasons_of(one, now)]
    remedy = remedy_of(one)
    return (*found, f"→ {remedy}") if remedy is not None else tuple(found)


def _in(moment: datetime | None, now: datetime) -> When:
    if moment is None:
        return When("–", None)
    seconds = (moment - now).total_seconds()
    return When(f"in {duration(seconds)}" if seconds > 0 else "now", rfc3339(moment))


def _run(one: RecentRun, now: datetime) -> Run:
    commit, previous = (one.commit or "")[:7], (one.previous or "")[:7]
    moved = f"{previous} → {commit}" if previous and commit and previous != commit else commit
    files = len(one.changes) + one.more
    counted = ("1 file" if files == 1 else f"{files} files") if files else one.status
    error = None if one.error is None else _cut(one.error, MAX_TEXT_CHARACTERS)
    changes = tuple(
        replace(change, path=_cut(change.path, MAX_NAME_CHARACTERS)) for change in one.changes
    )
    return Run(
        one.job,
        one.status not in ("failed", "refused"),
        When(ago(one.at, now), rfc3339(one.at)),
        moved,
        counted,
        error,
        changes,
        one.more,
    )
