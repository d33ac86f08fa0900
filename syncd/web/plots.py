"""Plots of a job's last runs as values: how long each took, and how late each new commit was.

Pure: no I/O. The template draws them as inline SVG, with every figure as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from syncd.recent_runs import RunSummary
from syncd.status import duration, rfc3339

HEIGHT, BAR_WIDTH, MIN_WIDTH = 80, 12, 240


class Bar(Struct, frozen=True):
    """One run in a plot, in units of the drawing."""

    x: int
    y: int
    height: int
    good: bool
    text: str


class Plot(Struct, frozen=True):
    """One plot, oldest run first. `summary` says in words what it shows."""

    title: str
    summary: str
    longest: str
    bars: tuple[Bar, ...]
    note: str

    @property
    def width(self) -> int:
        """Return the width of the drawing."""
        return max(MIN_WIDTH, len(self.bars) * BAR_WIDTH)


def plots(runs: Sequence[RunSummary]) -> tuple[Plot, ...]:
    """Return the plots that the runs, newest first, have values for."""
    oldest_first = list(reversed(runs))
    lags = [run for run in oldest_first if run.lag_seconds is not None]
    found = []
    if oldest_first:
        values = [run.seconds for run in oldest_first]
        note = "Runs that changed nothing are not kept."
        found.append(_plot("Duration of the last runs", "run", note, oldest_first, values))
    if lags:
        values = [run.lag_seconds or 0.0 for run in lags]
        note = "From when syncd first saw a commit until its files were on disk."
        found.append(_plot("Lag of the last commits", "commit", note, lags, values))
    return tuple(found)


def _plot(
    title: str, what: str, note: str, runs: Sequence[RunSummary], values: Sequence[float]
) -> Plot:
    longest, count = max(values), f"{len(values)} {what}s" if len(values) > 1 else f"1 {what}"
    summary = (
        f"{title}: {count}, the median is {exact(median(values))}, the longest {exact(longest)}"
    )
    bars = tuple(
        _bar(number, run, value, longest or 1.0)
        for number, (run, value) in enumerate(zip(runs, values, strict=True))
    )
    return Plot(title, summary, exact(longest), bars, note)


def _bar(number: int, run: RunSummary, value: float, longest: float) -> Bar:
    height = max(2, round(HEIGHT * value / longest))
    is_good = run.status not in ("failed", "refused")
    text = f"{rfc3339(run.at) or ''} {run.status}, {exact(value)}"
    return Bar(number * BAR_WIDTH, HEIGHT - height, height, is_good, text)


def exact(seconds: float) -> str:
    """Return a length of time: to a tenth of a second below a minute, else to its largest unit."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


__all__ = ["Bar", "Plot", "exact", "plots"]
