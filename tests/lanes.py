"""The lanes of the tests: what each one runs, what it needs, and how many seconds it may take.

Standard library only, because `dev` reads it too. `tests/conftest.py` prints the seconds of each
lane at the end of a run, and `.ci/run` runs the lanes in turn.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CI_SECONDS = 1800  # of .ci/run as a whole, on two cores
# None of these is in the push lane.
MARKS = ("root", "systemd", "chromium", "postgresql", "package", "fuzz", "docs")


@dataclass(frozen=True)
class Lane:
    """One lane: the marks that choose its tests, pytest's options, and what pip installs first."""

    budget_seconds: int
    marks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    options: tuple[str, ...] = ("-n", "2", "--dist", "loadgroup")
    tools: tuple[str, ...] = ()

    @property
    def expression(self) -> str:
        """Pytest's `-m`: any of the marks, and none of the others."""
        parts = [f"({' or '.join(self.marks)})"] if self.marks else []
        return " and ".join([*parts, *(f"not {mark}" for mark in self.without)])


LANES = {
    # Three processes on two cores: each waits for a third of its time.
    "push": Lane(300, without=MARKS, options=("-n", "3", "--dist", "worksteal")),
    "lint": Lane(60),
    "fuzz": Lane(120, ("fuzz",), without=("root",), tools=("atheris",)),
    # The thousand jobs are at rest for minutes, and cuts, mounts and traced processes wait for most
    # of their time.
    "root": Lane(
        480,
        ("root", "systemd"),
        without=("package", "chromium", "postgresql", "docs"),
        options=("-n", "3", "--dist", "loadgroup", "--timeout", "900"),
    ),
    "package": Lane(
        180, ("package",), tools=("twine", "pipx", "uv", "cyclonedx-python-lib[json-validation]")
    ),
    # Playwright (Apache-2.0) drives Debian's chromium; the other brings axe-core (MPL-2.0) and is
    # MIT itself. No package of ours has anything of them.
    "browser": Lane(180, ("chromium",), tools=("playwright>=1.60", "axe-playwright-python>=0.1.8")),
    "database": Lane(240, ("postgresql",)),
    "docs": Lane(
        60,
        ("docs",),
        without=("package",),
        tools=("codespell", "sphinx>=8.2", "myst-parser>=4", "furo>=2025.7.19"),
    ),
}


def files_of(lane: Lane) -> list[Path]:
    """The test files that name one of the lane's marks; the push lane's are all of them."""
    if not lane.marks:
        return [TESTS]
    named = re.compile(rf"\bmark\.({'|'.join(lane.marks)})\b")
    return [path for path in sorted(TESTS.rglob("test_*.py")) if named.search(path.read_text())]


def files_left_out(lane: Lane) -> list[Path]:
    """The test files with a mark for the whole file that the lane does not run.

    Pytest need not even import them.
    """
    if lane.marks:
        return []
    marked = re.compile(
        rf"^pytestmark = \[?pytest\.mark\.({'|'.join(lane.without)})\b", re.MULTILINE
    )
    return [path for path in sorted(TESTS.rglob("test_*.py")) if marked.search(path.read_text())]


def note(name: str, seconds: float, environment: Mapping[str, str] = os.environ) -> None:
    """Add a lane that has ended to the file that .ci/run names, if it runs."""
    if file := environment.get("SYNCD_LANE_TIMES"):
        with open(file, "a") as times:
            times.write(f"{name} {seconds:.0f}\n")


def table(environment: Mapping[str, str] = os.environ, now: float | None = None) -> list[str]:
    """The seconds of the lanes so far, and of the one that runs, each beside its budget."""
    now = time.time() if now is None else now
    file = environment.get("SYNCD_LANE_TIMES")
    rows = [line.split() for line in Path(file).read_text().splitlines()] if file else []
    taken = [(name, int(seconds)) for name, seconds in rows]
    if running := environment.get("SYNCD_LANE"):
        name, _, started = running.partition(":")
        taken.append((name, round(now - float(started))))
    lines = [_row(name, seconds, LANES[name].budget_seconds) for name, seconds in taken]
    if ci_started := environment.get("SYNCD_CI_STARTED"):
        lines.append(_row("all, with set-up", round(now - float(ci_started)), CI_SECONDS))
    return lines


def _row(name: str, seconds: int, budget_seconds: int) -> str:
    return f"{name:<18}{seconds:>5} s of {budget_seconds:>4} s" + (
        "  OVER BUDGET" if seconds > budget_seconds else ""
    )
