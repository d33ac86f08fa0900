#!/usr/bin/env python3
"""How the cost of a tick with nothing changed grows: with files, with jobs, with repositories.

`./dev bench growth [--out FILE] [--plot FILE]`.

Requests are GitHub's cost; CPU is ours, of a whole one-shot process. The plot is an SVG drawn here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from bench import KNOWN, Place, hub, measured  # noqa: E402
from workloads import Workload  # noqa: E402


@dataclass(frozen=True)
class Step:
    """One point of one line of the plot."""

    line: str
    x: int
    jobs: tuple[tuple[str, tuple[str, ...]], ...]


def steps() -> list[Step]:
    found = [
        Step(
            "files of one job",
            count,
            ((f"acme/files{count}", tuple(f"d{n:02d}/" for n in range(max(1, count // 100)))),),
        )
        for count in (10, 100, 1000, 10_000)
    ]
    found += [
        Step(
            "jobs of one repository",
            count,
            tuple(("acme/one", (f"f{n:04d}.conf",)) for n in range(count)),
        )
        for count in (1, 10, 100, 1000)
    ]
    found += [
        Step(
            "repositories, a job each",
            count,
            tuple((f"acme/g{n:02d}", ("f00.conf",)) for n in range(count)),
        )
        for count in (1, 10, 50)
    ]
    return [
        *found,
        Step(
            "1,000 jobs of 50 repositories",
            1000,
            tuple((f"acme/g{n % 50:02d}", (f"f{n // 50:02d}.conf",)) for n in range(1000)),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    asked, rows = parser.parse_args(), []
    print(
        (
            f"load {os.getloadavg()[0]:.1f}; medians of {asked.reps}; no latency\n\n"
            "| | | requests (304) | cost | CPU ms | wall ms | peak MB |\n"
            "| --- | --- | --- | --- | --- | --- | --- |"
        ),
        flush=True,
    )
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as where,
        hub(Path(where) / "hub", "growing") as server,
    ):
        for number, step in enumerate(steps()):
            place = Place(
                Path(where) / str(number),
                KNOWN["syncd"],
                Workload(step.line, step.jobs, "tick"),
                server,
                Path(where),
            )
            runs = [measured(place, server) for _ in range(2 + asked.reps)][2:]
            if any(run["code"] for run in runs):
                sys.exit(f"{step.line}, {step.x}: a run failed")
            row: dict[str, Any] = {"line": step.line, "x": step.x} | {
                key: statistics.median(run[key] for run in runs)
                for key in ("requests", "not_modified", "cost", "cpu", "wall", "rss_mb")
            }
            rows.append(row)
            asked_for = f"{row['requests']:g} ({row['not_modified']:g})"
            print(
                (
                    f"| {step.line} | {step.x:,} | {asked_for} | {row['cost']:g} | "
                    f"{row['cpu'] * 1000:.0f} | {row['wall'] * 1000:.0f} | {row['rss_mb']:.0f} |"
                ),
                flush=True,
            )
            place.clear()
    if asked.out is not None:
        asked.out.write_text(json.dumps(rows, indent=1))
    if asked.plot is not None:
        asked.plot.write_text(plot(rows))
    return 0


# --- the plot -------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 340, 220, 60, 60
LINES = {
    "files of one job": "green",
    "jobs of one repository": "blue",
    "repositories, a job each": "amber",
}
STYLE = (  # classes: a fill, and a stroke with -line
    "<style>.page{fill:#ffffff}.ink{fill:#1f2328}.dim{fill:#59636e}.edge-line{stroke:#d1d9e0}"
    ".green{fill:#116329}.green-line{stroke:#116329}.blue{fill:#0b5cad}.blue-line{stroke:#0b5cad}"
    ".amber{fill:#8a4600}.amber-line{stroke:#8a4600}"
    "@media (prefers-color-scheme:dark){.page{fill:#0d1117}.ink{fill:#e6edf3}.dim{fill:#9198a1}"
    ".edge-line{stroke:#3d444d}.green{fill:#6bc46d}.green-line{stroke:#6bc46d}"
    ".blue{fill:#6cb6ff}.blue-line{stroke:#6cb6ff}.amber{fill:#e0a458}"
    ".amber-line{stroke:#e0a458}}</style>"
)


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Two panels over the number of files, jobs or repositories: requests,
    and CPU. Both axes are logarithmic.
    """
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (WIDTH + LEFT) + 60} '
            f'{HEIGHT + TOP + 90}" font-family="sans-serif" font-size="11">'
        ),
        ("<title>What a run with nothing changed costs: only repositories add requests</title>"),
        STYLE,
        '<rect class="page" width="100%" height="100%" rx="8"/>',
        _panel(rows, LEFT, "requests", "requests of a run, all answered 304", 1, 1, 1000),
        _panel(
            rows,
            2 * LEFT + WIDTH + 20,
            "cpu",
            "CPU of the whole process, milliseconds",
            1000,
            10,
            1000,
        ),
    ]
    for number, (line, colour) in enumerate(LINES.items()):
        x, y = LEFT + number * 210, HEIGHT + TOP + 70
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="4" class="{colour}"/><text x="{x + 10}" y="{y}" '
            f'class="ink">{line}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    rows: Sequence[dict[str, Any]],
    left: int,
    key: str,
    title: str,
    unit: float,
    lowest: float,
    highest: float,
) -> str:
    def across(value: float) -> float:
        return left + WIDTH * log10(value) / 4

    def up(value: float) -> float:
        return TOP + HEIGHT * (1 - log10(max(value, lowest) / lowest) / log10(highest / lowest))

    parts = [f'<text x="{left}" y="{TOP - 20}" font-size="13" class="ink">{title}</text>']
    for power in range(5):
        x = across(10**power)
        parts.append(
            f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{TOP + HEIGHT}" class="edge-line"/><text '
            f'x="{x}" y="{TOP + HEIGHT + 18}" text-anchor="middle" '
            f'class="dim">{10**power:,}</text>'
        )
    tick = lowest
    while tick <= highest:
        parts.append(
            f'<line x1="{left}" y1="{up(tick)}" x2="{left + WIDTH}" y2="{up(tick)}" '
            'class="edge-line"/>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{up(tick) + 4}" text-anchor="end" '
            f'class="dim">{tick:,g}</text>'
        )
        tick *= 10
    for line, colour in LINES.items():
        points = [(across(row["x"]), up(row[key] * unit)) for row in rows if row["line"] == line]
        parts.append(
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" '
            f'class="{colour}-line" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{colour}"/>' for x, y in points]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
