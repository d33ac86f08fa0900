"""Page of one job as values: its state, its configuration, what differs, and what happened to it.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from syncd.engine.hook_result import shown_command
from syncd.models import CommitSummary
from syncd.recent_runs import LedgerSummary, RecentChange, RecentRun, RunSummary
from syncd.status import JobSnapshot, ago, rfc3339
from syncd.store.actions import OperatorAction
from syncd.web.job_settings import Destination, destinations, settings
from syncd.web.plots import Plot, exact, plots
from syncd.web.status_page import Row, When, cut, row_of

MAX_ERROR_CHARACTERS = 500
NEW_SECONDS = 60.0  # for so long the page says on top what a person did


class PastRow(Struct, frozen=True):
    """One run in the list of the job's last runs."""

    id: int
    good: bool
    when: When
    trigger: str
    status: str
    moved: str
    took: str
    changes: int
    error: str | None
    first_at: str | None
    lag: str | None
    summary: CommitSummary | None


class Past(Struct, frozen=True):
    """One entry of the timeline: a run, or in `action` what a person did."""

    when: When
    run: PastRow | None = None
    action: str | None = None


class Reload(Struct, frozen=True):
    """A pending reload: since when, how often it was tried, and the output of the last try."""

    command: str
    since: When
    attempts: int
    tried: When
    waits: When
    output: str | None


class JobFacts(Struct, frozen=True):
    """What the store knows of a job beside its state. `commits` says who made a commit."""

    runs: Sequence[RunSummary] = ()
    actions: Sequence[OperatorAction] = ()
    ledger: LedgerSummary = LedgerSummary()
    drift: tuple[RecentChange, ...] = ()
    commits: Mapping[str, CommitSummary] = {}


class JobView(Struct, frozen=True):
    """Everything that the page of a job shows. `newest` is an action of a moment ago."""

    title: str
    row: Row
    ledger: LedgerSummary
    size: str
    settings: tuple[tuple[str, str], ...]
    destinations: tuple[Destination, ...]
    commands: tuple[str, ...]
    drift: tuple[RecentChange, ...]
    reload: Reload | None
    timeline: tuple[Past, ...]
    plots: tuple[Plot, ...]
    newest: Past | None = None


class RunView(Struct, frozen=True):
    """Everything that the page of a run shows."""

    title: str
    run: RecentRun
    good: bool
    when: str
    summary: CommitSummary | None


def job_view(one: JobSnapshot, facts: JobFacts, now: datetime) -> JobView:
    """Return the page of a job."""
    row, actions = row_of(one, now, facts.commits), facts.actions
    is_new = bool(actions) and (now - actions[0].at).total_seconds() < NEW_SECONDS
    return JobView(
        f"{one.job.name}: {row.shown}",
        row,
        facts.ledger,
        size_text(facts.ledger.size_bytes),
        settings(one.job),
        destinations(one.job),
        commands(one),
        facts.drift,
        _reload(one, now),
        timeline(facts, now),
        plots(facts.runs),
        _past_action(actions[0], now) if is_new else None,
    )


def _reload(one: JobSnapshot, now: datetime) -> Reload | None:
    pending, hook, error = one.state.pending_reload, one.job.on_change, one.state.last_error
    if pending is None or hook is None:
        return None
    is_hooks = error is not None and error.kind == "hook"
    return Reload(
        shown_command(hook),
        _moment(pending.since, now),
        pending.attempts,
        _moment(pending.tried_at, now),
        When("", None)
        if pending.deferred_until is None
        else When(rfc3339(pending.deferred_until) or "", rfc3339(pending.deferred_until)),
        error.message if is_hooks and error is not None else None,
    )


def _moment(moment: datetime | None, now: datetime) -> When:
    return When(ago(moment, now), rfc3339(moment))


def size_text(size: int) -> str:
    """Return a size in its largest unit: `4 B`, `1.5 KiB`, `3.0 MiB`."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def timeline(facts: JobFacts, now: datetime) -> tuple[Past, ...]:
    """Return runs and actions, newest first."""
    long_ago = datetime.min.replace(tzinfo=UTC)
    found = [(one.at, _past_action(one, now)) for one in facts.actions]
    rows = [(run.at, _past_row(run, facts.commits, now)) for run in facts.runs]
    found += [(at or long_ago, Past(row.when, run=row)) for at, row in rows]
    return tuple(past for _, past in sorted(found, key=lambda one: one[0], reverse=True))


def _past_action(one: OperatorAction, now: datetime) -> Past:
    return Past(When(ago(one.at, now), rfc3339(one.at)), action=one.describe())


def run_view(run: RecentRun, summary: CommitSummary | None) -> RunView:
    """Return the page of a run. `summary` says who made its commit."""
    good = run.status not in ("failed", "refused")
    return RunView(
        f"{run.job}: a run that was {run.status}", run, good, rfc3339(run.at) or "", summary
    )


def commands(one: JobSnapshot) -> tuple[str, ...]:
    """Return the commands that apply to the job now."""
    name = one.job.name
    if one.condition == "paused":
        return (f"syncd resume {name}", f"syncd plan {name} --diff", f"syncd history {name}")
    return (
        f"syncd sync {name}",
        f"syncd plan {name} --diff",
        f"syncd rollback {name}",
        f"syncd pause {name}",
        f"syncd history {name}",
    )


def _past_row(run: RunSummary, commits: Mapping[str, CommitSummary], now: datetime) -> PastRow:
    commit, previous = (run.commit or "")[:7], (run.previous or "")[:7]
    moved = f"{previous} → {commit}" if previous and commit and previous != commit else commit
    return PastRow(
        run.id,
        run.status not in ("failed", "refused"),
        When(ago(run.at, now), rfc3339(run.at)),
        run.trigger,
        run.status,
        moved,
        f"{run.seconds:.1f} s",
        run.changes,
        None if run.error is None else cut(run.error, MAX_ERROR_CHARACTERS),
        rfc3339(run.first_at) if run.first_at != run.at else None,
        None if run.lag_seconds is None else exact(run.lag_seconds),
        commits.get(run.commit or ""),
    )


__all__ = [
    "JobFacts",
    "JobView",
    "RunView",
    "commands",
    "job_view",
    "run_view",
    "size_text",
    "timeline",
]
