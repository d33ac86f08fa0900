"""Page of one job as values: its configuration, its state, its last runs and their durations.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from syncd.engine.hook_result import shown_command
from syncd.models import Hook, Job
from syncd.recent_runs import RecentRun, RunSummary
from syncd.status import JobSnapshot, ago, duration, rfc3339
from syncd.store.actions import OperatorAction
from syncd.web.status_page import Row, When, cut, row_of

PLOT_HEIGHT, BAR_WIDTH = 80, 12
MAX_ERROR_CHARACTERS = 500
NEW_SECONDS = 60.0  # for so long the page says on top what a person did


class Bar(Struct, frozen=True):
    """One run in the plot of durations, in units of the drawing."""

    x: int
    y: int
    height: int
    good: bool
    text: str


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


class Past(Struct, frozen=True):
    """One entry of the timeline: a run, or in `action` what a person did."""

    when: When
    run: PastRow | None = None
    action: str | None = None


class JobView(Struct, frozen=True):
    """Everything that the page of a job shows. `newest` is an action of a moment ago."""

    title: str
    row: Row
    files: int
    settings: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    timeline: tuple[Past, ...]
    bars: tuple[Bar, ...]
    longest: str
    newest: Past | None = None

    @property
    def width(self) -> int:
        """Return the width of the plot."""
        return max(1, len(self.bars)) * BAR_WIDTH


class RunView(Struct, frozen=True):
    """Everything that the page of a run shows."""

    title: str
    run: RecentRun
    good: bool
    when: str


def job_view(
    one: JobSnapshot,
    runs: Sequence[RunSummary],
    actions: Sequence[OperatorAction],
    now: datetime,
) -> JobView:
    """Return the page of a job."""
    row = row_of(one, now)
    is_new = bool(actions) and (now - actions[0].at).total_seconds() < NEW_SECONDS
    longest = max((run.seconds for run in runs), default=0.0)
    return JobView(
        f"{one.job.name}: {row.shown}",
        row,
        one.files,
        settings(one.job),
        commands(one),
        timeline(runs, actions, now),
        bars(runs),
        f"{longest:.1f} s",
        _past_action(actions[0], now) if is_new else None,
    )


def timeline(
    runs: Sequence[RunSummary], actions: Sequence[OperatorAction], now: datetime
) -> tuple[Past, ...]:
    """Return runs and actions, newest first."""
    long_ago = datetime.min.replace(tzinfo=UTC)
    found = [(one.at, _past_action(one, now)) for one in actions]
    rows = [(run.at, _past_row(run, now)) for run in runs]
    found += [(at or long_ago, Past(row.when, run=row)) for at, row in rows]
    return tuple(past for _, past in sorted(found, key=lambda one: one[0], reverse=True))


def _past_action(one: OperatorAction, now: datetime) -> Past:
    return Past(When(ago(one.at, now), rfc3339(one.at)), action=one.describe())


def run_view(run: RecentRun) -> RunView:
    """Return the page of a run."""
    good = run.status not in ("failed", "refused")
    return RunView(f"{run.job}: a run that was {run.status}", run, good, rfc3339(run.at) or "")


def settings(job: Job) -> tuple[tuple[str, str], ...]:
    """Return the configuration of a job as syncd understood it, defaults included."""
    schedule = f"every {duration(job.every_seconds)}" if job.every_seconds else f"cron {job.cron}"
    found = [
        ("identity", job.identity),
        ("schedule", schedule + (", and on a push" if job.on_push else "")),
        ("prune", job.prune.value),
        ("drift", job.drift.value),
        ("publish", job.publish.value),
        ("timeout", f"{job.timeout_seconds:.0f} s"),
    ]
    hooks: list[tuple[str, Hook | None]] = [
        ("validate", job.validate),
        ("on_change", job.on_change),
    ]
    hooks.append(("health", None if job.health is None else job.health.command))
    found += [(name, shown_command(hook)) for name, hook in hooks if hook is not None]
    found += [(rule.source or "/", rule.to + "/" * rule.directory) for rule in job.paths]
    return tuple(found)


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


def bars(runs: Sequence[RunSummary]) -> tuple[Bar, ...]:
    """Return the durations as bars, oldest first; the longest has the height of the plot."""
    longest = max((run.seconds for run in runs), default=0.0) or 1.0
    return tuple(
        Bar(
            number * BAR_WIDTH,
            PLOT_HEIGHT - height,
            height,
            run.status not in ("failed", "refused"),
            f"{rfc3339(run.at) or ''} {run.status}, {run.seconds:.1f} s",
        )
        for number, run in enumerate(reversed(runs))
        for height in [max(2, round(PLOT_HEIGHT * run.seconds / longest))]
    )


def _past_row(run: RunSummary, now: datetime) -> PastRow:
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
    )


__all__ = ["JobView", "RunView", "bars", "commands", "job_view", "run_view", "settings", "timeline"]
