"""One daemon under everything at once, for some seconds;
`python3 dev faults abuse --seconds 600` for longer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.abuse import KINDS, Level, trial

SEED = int(os.environ.get("SYNCD_FAULT_SEED", "4"))


@pytest.mark.root
@pytest.mark.timeout(300)
def test_a_daemon_under_combined_abuse_serves_its_healthy_jobs(
    record_property: Callable[[str, object], None],
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="syncd-abuse-"))  # where another user may look
    try:
        verdict = trial(15.0, SEED, set(KINDS), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    record_property("figures", str(verdict))
    assert verdict.violations == [], verdict
    assert len(verdict.done) >= 15, verdict


def test_what_stays_beyond_the_slack_is_named() -> None:
    before = Level(20, 30, 0)
    assert Level(32, 54, 0).over(before) == []
    assert Level(33, 55, 1).over(before) == [
        "descriptors: 33 after 20",
        "threads: 55 after 30",
        "processes: 1 after 0",
    ]
