"""Status page as values: one sentence on top, then the jobs, the worst first.

Pure: no I/O.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.models import CommitSummary
from syncd.ports import JobState
from syncd.recent_runs import RecentChange, RecentRun
from syncd.status import (
    CONDITIONS,
    DaemonStatus,
    JobSnapshot,
    StatusSnapshot,
    WebhookStats,
    ago,
    daemon_problem,
    delivery_problem,
    duration,
    reasons_of,
    remedy_of,
    rfc3339,
    unmatched_line,
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


COMMAND = re.compile(
    r"(?:(?<=: )|^)syncd (?:sync|plan|resume|login|check|doctor|status|history|explain|verify|init"
    r"|migrate|rollback|installations)(?: [^;,()\n]*)?$"
)
MAX_NAME_CHARACTERS = 500
MAX_TEXT_CHARACTERS = 4000
MAX_ROWS = 50  # of the overview, unless all are asked for
NOTHING_KNOWN: Mapping[str, CommitSummary] = {}


class When(Struct, frozen=True):
    """A moment as text for people and, in `exact`, for machines."""

    text: str
    exact: str | None


class Remedy(Struct, frozen=True):
    """What to do about a job: a text, and the command at its end that can be copied, if any."""

    text: str
    command: str | None = None


class Row(Struct, frozen=True):
    """One job in the table.

    `repo_url` and `commit_url` are pages of the repository's host; None where it has no https.
    """

    name: str
    word: str
    sign: str
    shown: str
    since: When
    repo: str
    ref: str
    repo_url: str | None
    lag: str
    summary: CommitSummary | None
    mirrors: tuple[str, ...]
    commit: str | None
    commit_url: str | None
    success: When
    following: When
    reasons: tuple[str, ...]
    remedy: Remedy | None


class Tile(Struct, frozen=True):
    """One figure above the jobs. `word` is the condition that its colour shows; empty for none."""

    label: str
    figure: str
    note: str = ""
    word: str = ""


class Filter(Struct, frozen=True):
    """Which jobs the page shows: those in one state, and those with a text in them.

    An empty `state` or `text` leaves none out. Without `all`, only the first MAX_ROWS are shown.
    """

    state: str = ""
    text: str = ""
    all: bool = False

    def has_text(self, row: Row) -> bool:
        """Return whether the job has the text in it."""
        parts = (row.name, row.repo, row.ref, row.commit or "", *row.mirrors, *row.reasons)
        if row.summary is not None:
            parts = (*parts, row.summary.subject, row.summary.author)
        wanted = self.text.casefold()
        return not wanted or any(wanted in part.casefold() for part in parts)


class Choice(Struct, frozen=True):
    """One state that the page can be filtered by."""

    word: str
    shown: str
    count: int


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
    """Everything that the template shows. `total` counts all jobs, `found` those that the filter
    lets through, and `hidden` those of them that the page does not show.
    """

    title: str
    good: bool
    at: str
    tiles: tuple[Tile, ...]
    chosen: Filter
    choices: tuple[Choice, ...]
    total: int
    found: int
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]
    troubles: tuple[str, ...]
    runs: tuple[Run, ...]
    webhook: str | None = None
    daemon: tuple[str, str] | None = None
    hidden: int = 0


def view(
    readings: StatusSnapshot,
    recent: Sequence[RecentRun],
    chosen: Filter,
    commits: Mapping[str, CommitSummary] = NOTHING_KNOWN,
) -> View:
    """Return the page of a snapshot. `commits` says who made a commit."""
    now, counted = readings.at, Counter(one.condition for one in readings.jobs)
    in_state = (one for one in readings.jobs if chosen.state in ("", one.condition))
    worst_first = sorted(in_state, key=lambda one: CONDITIONS.index(one.condition))
    found = len(worst_first)
    if chosen.text:
        rows = [row for one in worst_first if chosen.has_text(row := row_of(one, now, commits))]
        found = len(rows)
        rows = rows if chosen.all else rows[:MAX_ROWS]
    else:
        shown = worst_first if chosen.all else worst_first[:MAX_ROWS]
        rows = [row_of(one, now, commits) for one in shown]
    troubles = (delivery_problem(one) for one in readings.deliveries)
    is_well = readings.daemon is None or readings.daemon.is_well
    return View(
        summary(counted) + _but(readings.daemon),
        counted["failing"] + counted["drift"] == 0 and is_well,
        rfc3339(now) or "",
        tiles(readings),
        chosen,
        tuple(Choice(word, WORDS[word], counted[word]) for word in CONDITIONS if counted[word]),
        len(readings.jobs),
        found,
        tuple(rows),
        _limits(readings),
        tuple(text for text in troubles if text is not None),
        tuple(_run(one, now) for one in recent),
        None if readings.webhook is None else _webhook(readings.webhook, now),
        None if readings.daemon is None else daemon_problem(readings.daemon),
        found - len(rows),
    )


def _limits(readings: StatusSnapshot) -> tuple[Limit, ...]:
    return tuple(
        Limit(one.name, one.view.limit, one.view.remaining, _in(one.view.reset_at, readings.at))
        for one in readings.rate_limits
        if one.view.limit is not None and one.view.remaining is not None
    )


def tiles(readings: StatusSnapshot) -> tuple[Tile, ...]:
    """Return the figures above the jobs. Each comes from the store or from memory."""
    counted = Counter(one.condition for one in readings.jobs)
    drifted = sum(one.state.drift_count for one in readings.jobs)
    pending = sum(one.state.pending_reload is not None for one in readings.jobs)
    return (
        Tile("In sync", f"{counted['in_sync']} of {counted.total()}", "", "in_sync"),
        Tile("Failing", str(counted["failing"]), "", "failing" if counted["failing"] else ""),
        Tile("Drifted files", f"{drifted:,}", "", "drift" if drifted else ""),
        Tile("Pending reloads", str(pending), "", "drift" if pending else ""),
        _lag(readings),
        _requests(readings),
    )


def _lag(readings: StatusSnapshot) -> Tile:
    """Return the longest time since a success. Paused jobs do not count: they have none to come."""
    found = [
        (one.state.last_success_at, one.job.name)
        for one in readings.jobs
        if one.state.last_success_at is not None and one.condition != "paused"
    ]
    if not found:
        return Tile("Slowest lag", "–")
    oldest, name = min(found)
    return Tile("Slowest lag", duration((readings.at - oldest).total_seconds()), name)


def _requests(readings: StatusSnapshot) -> Tile:
    """Return the requests of this hour, and the share of answers 304 since the daemon's start."""
    counted = sum(sum(repos.values()) for repos in readings.usage.values())
    answers = {} if readings.process is None else readings.process.requests
    total = sum(answers.values())
    unchanged = sum(count for (_, code), count in answers.items() if code == 304)
    note = f"{100 * unchanged // total} % of {total:,} answers are 304" if total else ""
    return Tile("Requests this hour", f"{counted:,}", note)


def _webhook(stats: WebhookStats, now: datetime) -> str:
    """Return the last delivery, and the pushes that no job follows."""
    lines = [webhook_line(stats, now), unmatched_line(stats, now)]
    return "; ".join(line for line in lines if line is not None)


def shortened(whole: View) -> View:
    """Return the page without the last runs, or without the better half of the jobs."""
    if whole.runs:
        return replace(whole, runs=())
    kept = whole.rows[: len(whole.rows) // 2]
    return replace(whole, rows=kept, hidden=whole.hidden + len(whole.rows) - len(kept))


def cut(text: str, longest: int) -> str:
    """Return the beginning and the end of a long text: the end of a path or output says more than
    its middle.
    """
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}"


def summary(counted: Counter[str]) -> str:
    """Return one sentence, the worst first: `1 of 4 jobs is failing, 1 has drifted`."""
    total, jobs = counted.total(), "job" if counted.total() == 1 else "jobs"
    odd = [word for word in CONDITIONS if word != "in_sync" and counted[word]]
    if not odd:
        few = ("No job is configured", "The job is in sync", "Both jobs are in sync")
        return dict(enumerate(few)).get(total, f"All {total} jobs are in sync")
    said = [f"{counted[word]} {STATE_PHRASES[word][counted[word] > 1]}" for word in odd]
    said[0] = said[0].replace(" ", f" of {total} {jobs} ", 1)
    return ", ".join(said)


def _but(daemon: DaemonStatus | None) -> str:
    """Return the end of the sentence that says that the daemon is not well; empty if it is."""
    if daemon is None or daemon.is_well:
        return ""
    if daemon.alive:
        return ", but runs are overdue"
    return f", but the daemon is {'stopped' if daemon.stopped else 'dead'}"


def row_of(
    one: JobSnapshot, now: datetime, commits: Mapping[str, CommitSummary] = NOTHING_KNOWN
) -> Row:
    """Return one job as the table shows it. `commits` says who made a commit."""
    job, state = one.job, one.state
    mirrors = (rule.to + ("/" if rule.directory else "") for rule in job.paths)
    remedy, commit, since = remedy_of(one), state.applied_commit, state.condition_since(now)
    return Row(
        job.name,
        one.condition,
        SIGNS[one.condition],
        WORDS[one.condition],
        _since(since, now),
        job.repo,
        job.ref or "HEAD",
        one.web_url,
        lag_of(state, now),
        commits.get(commit or ""),
        tuple(cut(mirror, MAX_NAME_CHARACTERS) for mirror in mirrors),
        commit,
        None if one.web_url is None or commit is None else f"{one.web_url}/commit/{commit}",
        When(ago(state.last_success_at, now), rfc3339(state.last_success_at)),
        _following(one, now),
        _reasons(one, now),
        None if remedy is None else split_remedy(cut(remedy, MAX_TEXT_CHARACTERS)),
    )


def lag_of(state: JobState, now: datetime) -> str:
    """Return in words what of the ref is not on disk yet; empty where nothing is known missing."""
    commit = None if state.waiting is None else state.waiting.commit
    if commit is None and state.rejection is not None:
        commit = state.rejection.commit
    if commit is None or commit == state.applied_commit:
        return ""
    since = state.condition_since(now)
    how_long = "" if since is None else f", for {duration((now - since).total_seconds())}"
    return f"behind {commit[:7]}{how_long}"


def _reasons(one: JobSnapshot, now: datetime) -> tuple[str, ...]:
    """Return the job's warnings with what to do, then why it is not in sync."""
    warnings = [f"! {warning.text} → {warning.hint}" for warning in one.warnings]
    return (*warnings, *(cut(reason, MAX_TEXT_CHARACTERS) for reason in reasons_of(one, now)))


def _since(moment: datetime | None, now: datetime) -> When:
    if moment is None:
        return When("", None)
    return When(f"for {duration((now - moment).total_seconds())}", rfc3339(moment))


def split_remedy(text: str) -> Remedy:
    """Return the remedy with the command that ends it apart: `to apply it now:` and `syncd …`."""
    found = COMMAND.search(text)
    return Remedy(text) if found is None else Remedy(text[: found.start()], found[0])


def _following(one: JobSnapshot, now: datetime) -> When:
    if one.running:
        return When("running now", None)
    return When("when resumed", None) if one.condition == "paused" else _in(one.next_run, now)


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
    error = None if one.error is None else cut(one.error, MAX_TEXT_CHARACTERS)
    changes = tuple(
        replace(change, path=cut(change.path, MAX_NAME_CHARACTERS)) for change in one.changes
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
