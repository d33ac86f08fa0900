"""A thousand jobs on fifty repositories, one interval of a minute:
what the daemon costs at rest, over real sockets.

The figures stand at the end of the run; SYNCD_SOAK_SECONDS makes it longer. CPU is the processor's
time of the daemon's process alone, without its start, its first syncs and the turn after those, in
which it learns that nothing is to be done: what else the machine does takes no part in it. Requests
are counted by the minutes of the wall clock, which turns follow: a clock that was set forward
meanwhile has had more of them.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.schedule import FIRST_RUNS_SPREAD_SECONDS
from tests.support.daemon import DEADLINE_SECONDS, Running, daemon
from tests.support.sync_env import SyncEnv, sync_env

SECONDS = float(os.environ.get("SYNCD_SOAK_SECONDS", "60"))
REPOSITORIES, JOBS = 50, 1000
RSS_MIB = 90.0
# on a quiet machine it is below half of that (docs/development/daemon-figures.md); the bound only
# has to notice what grows
CPU_SHARE = 0.06
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Source: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def status_of(pid: int, name: str) -> int:
    """A number of proc_pid_status(5)."""
    return next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(f"{name}:")
    )


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def settle(hub: SyncEnv, repositories: int, jobs: int) -> None:
    """That many jobs on that many repositories, a file each; the files of one repository are equal,
    so that the first syncs stay below what GitHub allows in a minute.
    """
    per = jobs // repositories
    hub.jobs.clear()
    for number in range(repositories):
        name = f"acme/repo{number}"
        hub.github.add_repo(name, {f"files/f{each}": f"{number}\n" for each in range(per)})
        for each in range(per):
            hub.jobs[f"r{number:02d}-j{each:02d}"] = {
                "repo": name,
                "ref": "main",
                "every": "60s",
                "paths": [{"from": f"files/f{each}", "to": f"{hub.dest}/r{number}/f{each}"}],
            }
    hub.write()


def come_to_rest(hub: SyncEnv, running: Running) -> None:
    """Every job is synced, and has had a quiet turn.

    Asked for by hand: turns of their own would come within two minutes.
    """
    running.send(signal.SIGUSR1)
    first: set[str] = set()
    while len(first) < JOBS:
        first.add(running.says("1 written")["job"])
    time.sleep(1.0)  # times in the store are whole seconds
    asked = int(time.time())
    running.send(signal.SIGUSR1)
    ends = time.monotonic() + DEADLINE_SECONDS * 5
    while any(_epoch(row["last_run"]) < asked for row in hub.call("status", "--json").json["jobs"]):
        assert time.monotonic() < ends, "not every job has had a second turn"
        time.sleep(1.0)


@pytest.mark.root
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("at rest")
def test_a_thousand_jobs_cost_fifty_requests_a_minute_and_little_else(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        settle(hub, REPOSITORIES, JOBS)
        with daemon(hub, forked=False) as running:
            pid, start = running.process.pid, time.monotonic()
            come_to_rest(hub, running)
            time.sleep(
                max(0.0, start + FIRST_RUNS_SPREAD_SECONDS + 1.0 - time.monotonic())
            )  # until then each job has a turn that its start owes it, beside its own
            set_up = time.monotonic() - start
            hub.github.forget_requests()
            wall, began, cpu, fds, threads = (
                time.time(),
                time.monotonic(),
                cpu_seconds(pid),
                descriptors(pid),
                status_of(pid, "Threads"),
            )
            time.sleep(SECONDS)
            passed, used, minutes = (
                time.monotonic() - began,
                cpu_seconds(pid) - cpu,
                (time.time() - wall) / 60,
            )
            rss, peak = status_of(pid, "VmRSS") / 1024, status_of(pid, "VmHWM") / 1024
            asked = list(hub.github.requests)
            rows = hub.call("status", "--json").json["jobs"]
            after = (descriptors(pid), status_of(pid, "Threads"))
            assert running.ends() == 0
        per_repo = Counter(one.path for one in asked)
        oldest = max(time.time() - _epoch(row["last_success"]) for row in rows)
        measured(
            f"1,000 jobs, {passed:.1f} s ({minutes * 60:.1f} s by the wall clock) after "
            f"{set_up:.0f} s: {len(asked) / minutes:.1f} requests a minute, "
            f"{sum(one.status == 304 for one in asked)} of {len(asked)} answered 304; CPU "
            f"{used / passed:.2%} of a core; RSS {rss:.1f} MiB (peak {peak:.1f}); descriptors "
            f"{fds} → {after[0]}, threads {threads} → {after[1]}; oldest success {oldest:.0f} s "
            "ago"
        )
        assert {one.status for one in asked} == {304} and {one.route for one in asked} == {"head"}
        assert len(per_repo) == REPOSITORIES and all(
            int(minutes) <= count <= int(minutes) + 1 for count in per_repo.values()
        ), per_repo
        assert len(asked) <= (REPOSITORIES + 1) * minutes
        assert rss <= RSS_MIB
        assert used / passed <= CPU_SHARE
        assert oldest <= 2 * 60 + 10, "no job is starved by more than an interval"
        assert after[0] <= fds + 20 and after[1] <= threads + 20


def _epoch(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
