"""Plots of a job's last runs, and how late each commit was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.recent_runs import RunSummary, lag_of
from syncd.store.history import PastRun
from syncd.web.plots import Bar, exact, plots

AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OLD, NEW = "a" * 40, "b" * 40


def past(minute: int, status: str, commit: str, first: int | None = None, **more: str) -> PastRun:
    at = (AT + timedelta(minutes=minute)).isoformat()
    first_at = None if first is None else (AT + timedelta(minutes=first)).isoformat()
    trigger = more.get("trigger", "schedule")
    return PastRun(
        minute, "nginx", at, trigger, status, commit, OLD, 2.0, 0, None, None, None, first_at
    )


LAGS = [
    ("at once", past(9, "changed", NEW), [past(3, "changed", OLD)], 2.0),
    ("after a refusal", past(9, "changed", NEW), [past(5, "refused", NEW)], 242.0),
    ("after an hour of them", past(9, "changed", NEW), [past(5, "failed", NEW, 1)], 482.0),
    (
        "after its window",
        past(9, "changed", NEW),
        [past(8, "failed", NEW), past(7, "waiting", NEW), past(2, "failed", OLD)],
        122.0,
    ),
    ("a repair", past(9, "changed", OLD), [past(3, "changed", OLD)], None),
    ("a failure", past(9, "failed", NEW), [], None),
    ("a rollback", past(9, "changed", NEW, trigger="rollback"), [], None),
]


@pytest.mark.parametrize(("run", "before", "seconds"), [row[1:] for row in LAGS])
def test_the_lag_is_from_the_first_sight_of_a_commit_until_its_files_are_there(
    run: PastRun, before: list[PastRun], seconds: float | None
) -> None:
    assert lag_of(run, before) == seconds


def test_a_plot_has_its_figures_as_text_and_its_bars_to_scale() -> None:
    runs = [
        RunSummary(3, AT, "push", "changed", NEW, OLD, 4.0, 1, None, AT, 120.0),
        RunSummary(2, AT, "schedule", "failed", NEW, OLD, 1.0, 0, "no", AT, None),
    ]
    durations, lags = plots(runs)
    assert durations.summary == (
        "Duration of the last runs: 2 runs, the median is 2.5 s, the longest 4.0 s"
    )
    assert durations.bars == (
        Bar(0, 60, 20, False, "2026-11-30T12:00:00Z failed, 1.0 s"),
        Bar(12, 0, 80, True, "2026-11-30T12:00:00Z changed, 4.0 s"),
    )
    assert lags.summary == "Lag of the last commits: 1 commit, the median is 2m, the longest 2m"
    assert plots([]) == ()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0 s"), (59.94, "59.9 s"), (60.0, "1m"), (86400.0, "1d")]
)
def test_a_length_of_time_is_exact_while_it_is_short(seconds: float, text: str) -> None:
    assert exact(seconds) == text
