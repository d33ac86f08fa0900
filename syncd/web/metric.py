"""One metric: its name, kind, help and labels."""

from __future__ import annotations

from typing import NamedTuple

Sample = tuple[tuple[str, ...], float]  # the labels' values in the metric's order, and the value


class Metric(NamedTuple):
    """One metric: its whole name, `gauge` or `counter`, its help and the names of its labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


__all__ = ["Metric", "Sample"]
