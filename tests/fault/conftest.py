"""The figures of the fault families, as one table at the end of a run; those made by another process of pytest-xdist come with its reports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fault.points import Tally


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[Tally], Tally]:
    """Hands a tally on to the table at the end of the run."""

    def note(tally: Tally) -> Tally:
        record_property("figures", str(tally))
        return tally

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome) if report.when == "call"]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("faults: points made, how the runs ended, what was violated")
        for line in lines:
            terminalreporter.write_line(line)
