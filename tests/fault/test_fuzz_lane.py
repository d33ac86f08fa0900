"""The fuzz lane: seeded samples of the fault families that need no root.

Its figures are printed at the end of the run; `dev faults --full` makes the full counts.

SYNCD_FAULT_POINTS multiplies the samples, SYNCD_FAULT_SEED draws other ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.fault.bugs import calibration
from tests.fault.families import FAMILIES
from tests.fault.points import Tally
from tests.fault.reasons import unexplained

pytestmark = pytest.mark.fuzz

SEED = int(os.environ.get("SYNCD_FAULT_SEED", "4"))
TIMES = int(os.environ.get("SYNCD_FAULT_POINTS", "1"))


def held(tally: Tally) -> None:
    assert tally.violations == []
    assert tally.points > 0 and tally.not_reached <= tally.points // 50, (
        f"{tally.not_reached} points were not reached: the sample is not what it says"
    )


@pytest.mark.parametrize(
    ("family", "points", "part"),
    [
        ("lines", 20, 0),
        pytest.param("lines", 30, 1, marks=pytest.mark.root),
        ("lines-many", 14, 0),
        ("folders-lines", 8, 0),
        ("publish-lines", 14, 0),
        ("publish-folders-lines", 6, 0),
    ],
)
def test_killed_at_any_line_a_run_leaves_old_or_new_files_and_the_next_run_needs_nobody(
    family: str, points: int, part: int, figures: Callable[[Tally], Tally]
) -> None:
    held(figures(FAMILIES[family].make(points * TIMES, SEED + part)))


@pytest.mark.parametrize(
    ("family", "points", "part"),
    [
        ("calls", 20, 0),
        pytest.param("calls", 30, 1, marks=pytest.mark.root),
        ("calls-many", 14, 0),
        ("gone-for-a-while", 10, 0),
        ("folders-calls", 8, 0),
        ("publish-calls", 14, 0),
        ("publish-folders-calls", 6, 0),
    ],
)
def test_whatever_call_fails_with_whatever_error_the_run_fails_by_name_or_a_reason_is_listed(
    family: str, points: int, part: int, figures: Callable[[Tally], Tally]
) -> None:
    tally = figures(FAMILIES[family].make(points * TIMES, SEED + part))
    held(tally)
    assert unexplained(tally) == []


def test_bytes_are_on_disk_before_their_name_and_names_before_the_ledger_is_told(
    figures: Callable[[Tally], Tally],
) -> None:
    held(figures(FAMILIES["order"].make(6, SEED)))


def test_the_order_of_syncs_is_found_out_when_it_is_wrong(
    figures: Callable[[Tally], Tally],
) -> None:
    """The quick part of the calibration; the root lane seeds all the bugs."""
    tally = figures(calibration(lambda bug: bug.is_quick))
    assert tally.violations == [] and tally.points >= 6
