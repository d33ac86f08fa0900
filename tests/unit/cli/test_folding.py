"""Long lines are folded between words on a terminal, and nowhere else."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from syncd.cli.folding import fold
from syncd.cli.run_output import summary_line
from syncd.errors import NotFoundError
from syncd.models import ActionKind, Change, RunReport, RunStatus

TEXT = "run it once with --allow-delete 12 or raise limits: delete"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (None, [f"    → {TEXT}"]),
        (80, [f"    → {TEXT}"]),
        (50, ["    → run it once with --allow-delete 12 or raise", "      limits: delete"]),
        (10, ["    → run it once with --allow-delete 12 or", "      raise limits: delete"]),
    ],
)
def test_a_text_is_folded_to_the_terminal(columns: int | None, lines: list[str]) -> None:
    assert fold(TEXT, columns, " " * 6, "    → ") == lines


def test_a_word_that_is_wider_than_the_terminal_stays_whole() -> None:
    path = "/srv/" + "a" * 60
    assert fold(f"no folder {path} here", 50, "  ") == ["  no folder", f"  {path}", "  here"]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (None, "✕ a  -                  there is no branch 'x' in acme/infrastructure  0.1 s"),
        (
            60,
            "✕ a  -                  there is no branch 'x' in\n    acme/infrastructure  0.1 s",
        ),
    ],
)
def test_the_message_of_a_failed_job_is_folded(columns: int | None, line: str) -> None:
    error = NotFoundError("there is no branch 'x' in acme/infrastructure\nlast output", id="x/y")
    report = RunReport("a", RunStatus.FAILED, "r", "main", None, None, error=error, seconds=0.1)
    shown = re.sub(r"\x1b\[[\w;]*m", "", summary_line(report, 1, columns))
    assert shown == f"{line}\nlast output"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (None, ["✓ a  1f3ac90            in sync  0.1 s", "✓ a  1f3ac90            +1  12.0 s"]),
        (
            80,
            [
                "✓ a  1f3ac90            in sync                   0.1 s",
                "✓ a  1f3ac90            +1                        12.0 s",
            ],
        ),
        (
            40,
            [
                "✓ a  1f3ac90            in sync    0.1 s",
                "✓ a  1f3ac90            +1        12.0 s",
            ],
        ),
    ],
)
def test_the_times_of_several_jobs_line_up(columns: int | None, lines: list[str]) -> None:
    made = Change(ActionKind.WRITE, "/etc/motd", "motd", None, "a" * 40)
    commit = "1f3ac90" + "0" * 33
    unchanged = RunReport("a", RunStatus.UNCHANGED, "r", "main", commit, commit, seconds=0.1)
    changed = replace(unchanged, status=RunStatus.CHANGED, changes=(made,), seconds=12.0)
    shown = [summary_line(report, 1, columns) for report in (unchanged, changed)]
    assert [re.sub(r"\x1b\[[\w;]*m", "", line) for line in shown] == lines
