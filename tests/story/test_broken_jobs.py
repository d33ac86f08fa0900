"""What broken jobs cost GitHub in an hour: little, however short their interval is.

SYNCD_BROKEN_JOBS makes it as many as an operator may have.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon

JOBS = int(os.environ.get("SYNCD_BROKEN_JOBS", "12"))
LIMIT = 5000


def charged(days: SimulatedDaemon) -> Counter[str]:
    """Route -> requests of the hour that has just passed that a limit counts."""
    days.github.forget_requests()
    days.run(3600.0)
    return Counter(one.route for one in days.github.requests if one.status != 304)


@pytest.mark.timeout(0 if JOBS > 100 else 120)
@pytest.mark.parametrize("what", ["repository", "ref", "path"])
def test_broken_jobs_use_a_hundredth_of_the_hourly_limit(
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[str], None],
) -> None:
    with simulated_daemon(tmp_path, monkeypatch) as days:
        days.github.primary_limit = None
        for number in range(JOBS):
            if what != "repository":
                folder = "files" if what == "ref" else "other"
                days.github.add_repo(f"acme/r{number}", {f"{folder}/a": "x\n"})
            ref = "absent" if what == "ref" else "main"
            days.add(f"j{number}", f"acme/r{number}", "15s", ref=ref)
        days.begin(random.Random(25).random)
        hours = [charged(days) for _ in range(3)]
        ends = [report.error.id for _, report in days.reports if report.error is not None]
        measured(f"{JOBS} jobs at 15 s without a {what}, charged in each hour: {hours}")
        assert len(ends) == len(days.reports) and len(set(ends)) == 1
        share = max(1.0, JOBS / 1000) * LIMIT / 100
        assert max(hours[1]["graphql"], sum(hours[2].values())) <= share
        assert sum(hours[2].values()) == hours[2]["graphql"], "REST is not asked again"


@pytest.mark.parametrize("what", ["repository", "ref"])
def test_a_job_runs_soon_after_what_it_misses_is_there(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulated_daemon(tmp_path, monkeypatch) as days:
        for number in range(12):
            if what == "ref":
                days.github.add_repo(f"acme/r{number}", {"files/a": "x\n"})
            days.add(f"j{number}", f"acme/r{number}", "15s", ref="later" if what == "ref" else None)
        days.begin(random.Random(25).random)
        days.run(4 * 3600.0)
        repo = days.github.repos.get("acme/r3") or days.github.add_repo("acme/r3")
        repo.commit({"files/a": "there\n"}, branch="later" if what == "ref" else "main")
        days.run(1800.0)
        assert (tmp_path / "dest/j3/a").read_text() == "there\n"
        assert sum(error is not None for error in days.settled().values()) == 11
