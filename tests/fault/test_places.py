"""Forty things that may stand where a file belongs, each against a file that is added,
changed and deleted.

At a push each thing meets one of the three, in turn; the root lane tries the other two.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.places import FAULTS, OPERATIONS, Yard, names, yard


@pytest.fixture(scope="module")
def one() -> Iterator[Yard]:
    with (
        tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        ) as folder,
        yard(Path(folder) / "yard") as made,
    ):
        yield made


def test_there_are_more_than_thirty_of_them() -> None:
    assert len(names(root=False)) >= 30 and len(FAULTS) >= 40


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        pytest.param(
            fault,
            operation,
            marks=[pytest.mark.root] if (row + column) % len(OPERATIONS) else [],
        )
        for row, fault in enumerate(names(root=False))
        for column, operation in enumerate(OPERATIONS)
    ],
)
def test_whatever_stands_there_the_rest_is_whole_others_are_untouched_and_the_next_run_heals(
    one: Yard, fault: str, operation: str
) -> None:
    wrong, how = one.case(fault, operation)
    assert wrong == [], how
