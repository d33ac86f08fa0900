"""Prints findings: a sign, the subject, the cause, and under it what to do."""

from __future__ import annotations

from collections import Counter

from syncd.cli.folding import fold, terminal_columns
from syncd.diagnosis.finding import Finding, Level, ok
from syncd.output import echo
from syncd.text import styled

SIGNS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✕", "red")}
SUBJECT_WIDTH = 13
INDENT = " " * (SUBJECT_WIDTH + 3)
ARROW = "    → "
MAX_GOOD = 10  # lines of one subject


class FindingPrinter:
    """Prints findings as they come.

    Unless `verbose`, at most MAX_GOOD lines of each subject say that all is well, so that a problem
    is not lost among a thousand good lines.
    """

    def __init__(self, verbose: bool, quiet: bool = False, bad_to_stderr: bool = False) -> None:
        self._verbose, self._quiet, self._bad_to_stderr = verbose, quiet, bad_to_stderr
        self._good: Counter[str] = Counter()

    def show(self, one: Finding) -> None:
        """Print the finding. Quiet leaves out what is well."""
        if one.level is not Level.OK:
            show_finding(one, err=self._bad_to_stderr)
            return
        self._good[one.subject] += 1
        if not self._quiet and (self._verbose or self._good[one.subject] <= MAX_GOOD):
            show_finding(one)

    def finish(self) -> None:
        """Print how many lines were left out."""
        for subject, count in self._good.items():
            if count > MAX_GOOD and not self._verbose and not self._quiet:
                text = f"{count - MAX_GOOD:,} more, all well; with -v each is shown"
                show_finding(ok("doctor/more", subject, text))


def show_finding(one: Finding, err: bool = False) -> None:
    """Print the finding. Lines are folded on a terminal only."""
    sign, colour = SIGNS[one.level]
    columns = terminal_columns(err)
    first, *more = fold(one.message, columns, INDENT)
    echo(f"{styled(sign, fg=colour)} {one.subject:<{SUBJECT_WIDTH}} {first.lstrip(' ')}", err=err)
    if one.hint:
        more += fold(one.hint, columns, " " * len(ARROW), ARROW)
    for line in more:
        echo(line, err=err)
