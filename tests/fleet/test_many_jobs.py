"""5,000 due jobs over four controllers, one of which is killed while it holds some of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from sqlalchemy import text

from syncd.fleet import leases
from tests.support.fleet import Fleet, Publisher, job_of
from tests.support.fleet_claimer import AT_ONCE, HOLDS, name_of

pytestmark = pytest.mark.postgresql

JOBS, LEASE_SECONDS, KILLED_AT = 5000, 3.0, 60
NEVER = 0


def started(fleet: Fleet, worker: str, hold: int) -> subprocess.Popen[str]:
    arguments = (fleet.address("c1"), worker, str(JOBS), str(LEASE_SECONDS), str(hold))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.fleet_claimer", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_due_jobs_are_done_once_by_four_controllers_of_which_one_is_killed(
    fleet: Fleet, controller: Publisher
) -> None:
    jobs = {name_of(number): job_of(name_of(number)) for number in range(JOBS)}
    with controller.database.begin() as connection:
        leases.register(connection, jobs)
    killed = started(fleet, "c1", KILLED_AT)
    others = [started(fleet, f"c{number}", NEVER) for number in (2, 3, 4)]
    for process in (killed, *others):
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in (killed, *others):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    done = until_it_holds(killed)
    killed.kill()
    killed.communicate()
    for process in others:
        done += process.communicate(timeout=100)[0].split()
        assert process.returncode == 0
    assert sorted(done) == sorted(jobs)
    assert how_often_claimed(controller) == {1: JOBS - AT_ONCE, 2: AT_ONCE}


def until_it_holds(process: subprocess.Popen[str]) -> list[str]:
    """Return the jobs that a controller gave back before it kept its last claim."""
    assert process.stdout is not None
    done: list[str] = []
    for line in process.stdout:
        if line.strip() == HOLDS:
            return done
        done += line.split()
    raise AssertionError("it ended before")


def how_often_claimed(controller: Publisher) -> dict[int, int]:
    """Return how many jobs were claimed how often, and note the seconds that they took."""
    query = text(
        "SELECT epoch, count(*), extract(epoch FROM max(polled_at) - min(min(polled_at)) OVER ())"
        " AS seconds FROM syncd.job GROUP BY epoch"
    )
    with controller.database.begin() as connection:
        rows = list(connection.execute(query))
    if file := os.environ.get("SYNCD_FLEET_RESULTS"):
        with open(file, "a") as results:
            results.writelines(f"{json.dumps(dict(row._mapping), default=str)}\n" for row in rows)
    return {row.epoch: row.count for row in rows}
