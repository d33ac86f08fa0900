"""Each planted fault is found by the test that the table names for it."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.fault.planted import Fault, verdict
from tests.fault.planted_faults import FAULTS, TABLE

PLAN = "syncd.engine.plan"


EVERY = 100  # at a push one of so many is tried
# of the others the root lane tries one of so many, and all with SYNCD_PLANTED=1
ELSEWHERE = int(os.environ.get("SYNCD_PLANTED", "3"))


def _id(fault: Fault) -> str:
    return f"{fault.module}: {fault.name}"


@pytest.mark.parametrize("fault", FAULTS[::EVERY], ids=_id)
def test_a_planted_fault_is_found(fault: Fault) -> None:
    assert verdict(fault) == ""


@pytest.mark.root
@pytest.mark.parametrize(
    "fault",
    [fault for number, fault in enumerate(FAULTS) if number % EVERY][::ELSEWHERE],
    ids=_id,
)
def test_another_planted_fault_is_found(fault: Fault) -> None:
    assert verdict(fault) == ""


def test_every_fault_is_another_one() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.module, fault.planted()) for fault in FAULTS}) == len(FAULTS)
    assert Counter(fault.test for fault in FAULTS)[TABLE] >= 14


def test_a_source_that_is_not_changed_is_not_found() -> None:
    same = Fault("nothing", PLAN, "def make_plan(", "def make_plan(", TABLE)
    assert verdict(same).startswith("not noticed by")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("no such test", PLAN, "def make_plan(", "def make_plan(", f"{TABLE}_nowhere"),
        Fault("no module", PLAN, "def make_plan(", "def make_plan((", TABLE),
    ],
    ids=lambda fault: fault.name,
)
def test_what_cannot_be_run_does_not_count_as_found(fault: Fault) -> None:
    assert "could not be run" in verdict(fault)


@pytest.mark.parametrize("old", ["no such text", "self._action("])
def test_a_text_that_is_not_there_once_is_refused(old: str) -> None:
    with pytest.raises(AssertionError, match="the old text is"):
        Fault("unclear", PLAN, old, "", TABLE).planted()
