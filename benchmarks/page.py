#!/usr/bin/env python3
"""What the status page costs, and whether it slows runs: `./dev bench page [--rounds 10]`.

First, `/` and `/api/v1/status` with 10 jobs and with 1,000: each answer made anew, and as they are
served, where an answer is kept for four times as long as it took. Then rounds of a daemon whose 100
jobs all have a change, by turns without viewers and with ten that ask every second. The processor's
time is that of the daemon's process alone, so other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
import yaml  # noqa: E402

from syncd.config.load import load_config  # noqa: E402
from syncd.config.model import Web as WebConfig  # noqa: E402
from syncd.daemon.daemon import Daemon  # noqa: E402
from syncd.ports import JobState  # noqa: E402
from syncd.web import views  # noqa: E402
from syncd.web.server import Web  # noqa: E402
from tests.support.daemon import Running, daemon  # noqa: E402
from tests.support.sync_env import SyncEnv, sync_env  # noqa: E402

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PATHS = ("/", "/api/v1/status")
SIZES = (10, 1000)
REPOSITORIES, JOBS, VIEWERS = 10, 100, 10


def cpu_seconds(pid: int) -> float:
    """Source: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


# --- the page alone -------------------------------------------------------------------------------


def serve_jobs(count: int, is_kept: bool) -> None:
    """Serve a store of so many jobs in sync until this process is killed."""
    if not is_kept:
        views.CACHE_TIME_FACTOR = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "token").write_text("ghp_" + "a1B2" * 9)
        (folder / "token").chmod(0o600)
        jobs = {f"job-{number:04}": job_of(folder, number) for number in range(count)}
        value = {
            "version": "1",
            "state": str(folder / "state"),
            "github": {"ops": {"token": {"file": str(folder / "token")}}},
            "jobs": jobs,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(value))
        config = load_config(folder / "config.yaml", os.environ)
        prepared = Daemon(lambda: config, os.environ)
        prepared.prepare(config)
        now = datetime.now(UTC)
        for number, job in enumerate(jobs):
            commit = f"{number:040x}"
            state = JobState(applied_commit=commit, last_run_at=now, last_success_at=now, files=1)
            prepared.app.store.change_state(job, partial(_replaced, state.with_condition(now)))
        print(Web(WebConfig("127.0.0.1:0"), prepared, {}).names[0], flush=True)
        signal.pause()


def _replaced(state: JobState, _before: JobState) -> JobState:
    return state


def job_of(folder: Path, number: int) -> dict[str, Any]:
    return {
        "repo": f"acme/repo{number % 50}",
        "ref": "main",
        "every": "5m",
        "paths": [{"from": f"files/f{number}", "to": f"{folder}/dest/f{number}"}],
    }


@contextmanager
def another(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """This script in a process of its own, for as long as the block lasts."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def get(host: str, path: str) -> tuple[float, int]:
    """How many seconds the answer took, and its status."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return time.perf_counter() - began, answer.status


def measure_pages(requests: int) -> None:
    print(f"{'':34}{'p50':>9}{'p99':>9}{'CPU':>9}   (ms a request, {requests} requests)")
    for is_kept in (False, True):
        found: dict[tuple[str, int], tuple[float, ...]] = {}
        for count in SIZES:
            with another("--serve", str(count), "--kept" if is_kept else "--anew") as server:
                assert server.stdout is not None
                host = server.stdout.readline().strip().removeprefix("http://").rstrip("/")
                for path in PATHS:
                    found[path, count] = measure(server.pid, host, path, requests)
        for path in PATHS:
            for count in SIZES:
                how = "as served" if is_kept else "made anew"
                cells = "".join(f"{1000 * value:9.1f}" for value in found[path, count])
                print(f"{how} {path:15} {count:5} jobs {cells}")
            many, few = (found[path, count] for count in reversed(SIZES))
            ratios = (f"{one / other:9.1f}" for one, other in zip(many, few, strict=True))
            print(f"{'':20}{'ratio':14}{''.join(ratios)}")


def measure(pid: int, host: str, path: str, requests: int) -> tuple[float, ...]:
    """The median, the 99th of a hundred, and the processor's seconds of a request."""
    for _ in range(5):
        assert get(host, path)[1] == 200
    before = cpu_seconds(pid)
    seconds = sorted(get(host, path)[0] for _ in range(requests))
    cpu = (cpu_seconds(pid) - before) / requests
    return statistics.median(seconds), seconds[int(len(seconds) * 0.99) - 1], cpu


# --- beside runs ----------------------------------------------------------------------------------


def view(host: str) -> None:
    """Ask for the page every second, in ten threads, until this process is killed."""

    def look() -> None:
        while True:
            time.sleep(random.uniform(0.5, 1.5))
            get(host, "/")

    threads = [threading.Thread(target=look) for _ in range(VIEWERS)]
    for thread in threads:
        thread.start()


def settle(hub: SyncEnv) -> None:
    """A hundred jobs on ten repositories, a file each."""
    hub.jobs.clear()
    for number in range(JOBS):
        repo = f"acme/repo{number % REPOSITORIES}"
        if repo not in hub.github.repos:
            hub.github.add_repo(repo, {f"files/f{each}": "0\n" for each in range(JOBS)})
        paths = [{"from": f"files/f{number}", "to": f"{hub.dest}/f{number}"}]
        hub.jobs[f"job-{number}"] = {"repo": repo, "ref": "main", "every": "1h", "paths": paths}
    hub.extra["web"] = {"listen": "127.0.0.1:0"}
    hub.write()


def one_round(hub: SyncEnv, running: Running, number: int) -> tuple[float, float]:
    """Seconds, and the daemon's processor seconds, until a change of every job is on disk."""
    for repo in range(REPOSITORIES):
        content = {f"files/f{each}": f"{number}\n" for each in range(JOBS)}
        hub.github.repos[f"acme/repo{repo}"].commit(content)
    began, cpu = time.perf_counter(), cpu_seconds(running.process.pid)
    running.send(signal.SIGUSR1)
    done: set[str] = set()
    while len(done) < JOBS:
        done.add(running.says("1 written")["job"])
    return time.perf_counter() - began, cpu_seconds(running.process.pid) - cpu


def measure_runs(rounds: int) -> None:
    found: dict[int, list[tuple[float, float]]] = {0: [], VIEWERS: []}
    with tempfile.TemporaryDirectory() as folder, sync_env(Path(folder), as_app=False) as hub:
        settle(hub)
        with daemon(hub) as running:
            line = next(line for line in running.lines if "listening on" in str(line))
            host = str(line["message"]).partition("http://")[2].rstrip("/")
            one_round(hub, running, 1)
            for number in range(rounds):
                found[0].append(one_round(hub, running, 2 * number + 2))
                with another("--view", host):
                    time.sleep(1.0)
                    found[VIEWERS].append(one_round(hub, running, 2 * number + 3))
    for viewers, times in found.items():
        seconds, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{viewers:3} viewers: {JOBS} jobs with a change took {seconds:.2f} s, {cpu:.2f} s CPU"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--anew", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--view", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve_jobs(asked.serve, asked.kept)
    elif asked.view is not None:
        view(asked.view)
    else:
        measure_pages(asked.requests)
        measure_runs(asked.rounds)


if __name__ == "__main__":
    main()
