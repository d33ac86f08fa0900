#!/usr/bin/env python3
"""What a tick costs in a process that stays, as the daemon's does:
`./dev bench warm [--latency 30] [--ticks 20]`.

Its own 900 requests a minute make the first sync of W6 take two minutes.

Each tick runs every job of a workload over one open app, with heads shared within the tick. Beside
it, one bare request on a kept connection: the round trip that nobody can do without.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from bench import KNOWN, Hub, Place, hub  # noqa: E402
from workloads import TOKEN, WORKLOADS  # noqa: E402

from syncd.config.load import load_config  # noqa: E402
from syncd.engine.context import Options  # noqa: E402
from syncd.engine.reload import run_job_and_reload  # noqa: E402
from syncd.engine.unchanged import UnchangedState, still_unchanged, unchanged_state  # noqa: E402
from syncd.github.request_cache import SingleFlight  # noqa: E402
from syncd.models import Job, RunReport, RunStatus, Trigger  # noqa: E402
from syncd.wiring import AppContext, ConnectionOptions  # noqa: E402


def round_trip(server: Hub, ticks: int) -> float:
    """Median seconds of one conditional request on a kept connection,
    with the standard library alone.
    """
    parts, times = urlsplit(server.url), []
    line = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/vnd.github.sha",
        "User-Agent": "bench",
    }
    for _ in range(ticks):
        began = time.perf_counter()
        line.request("GET", "/repos/acme/w1/commits/heads/main", headers=headers)
        line.getresponse().read()
        times.append(time.perf_counter() - began)
    line.close()
    return statistics.median(times)


def tick(
    app: AppContext, rests: dict[str, UnchangedState], pool: ThreadPoolExecutor
) -> list[RunReport]:
    """Every job once, as the daemon's workers do it."""
    heads = SingleFlight()

    def one(job: Job) -> RunReport:
        ctx, deadline = app.run_context(job, heads), app.deadline(job, Trigger.SCHEDULE)
        quiet = (
            still_unchanged(rests[job.name], job, ctx, deadline, Trigger.SCHEDULE)
            if job.name in rests
            else None
        )
        if quiet is not None:
            return quiet
        with app.locked(job):
            report = run_job_and_reload(job, ctx, deadline, Options(trigger=Trigger.SCHEDULE))
            if (
                report.status is RunStatus.UNCHANGED
                and (found := unchanged_state(job, ctx, deadline)) is not None
            ):
                rests[job.name] = found
        return report

    return list(pool.map(one, app.config.jobs.values()))


def measure(name: str, server: Hub, folder: Path, latency: float, ticks: int) -> dict[str, Any]:
    place = Place(folder / name, KNOWN["syncd"], WORKLOADS[name], server, folder)
    place.command()
    environment = {**os.environ, "HUB_TOKEN": TOKEN, "HOME": str(folder)}
    app = AppContext.open(
        load_config(folder / name / "config.yaml", environment),
        environment,
        ConnectionOptions(wait_for_limits=False),
    )
    rests: dict[str, UnchangedState] = {}
    with ThreadPoolExecutor(min(32, len(app.config.jobs))) as pool:
        server.tell("latency?ms=0")
        for _ in range(3):
            tick(app, rests, pool)
        server.tell(f"latency?ms={latency}")
        walls, cpus = [], []
        server.tell("reset")
        for _ in range(ticks):
            began, used = time.perf_counter(), time.process_time()
            reports = tick(app, rests, pool)
            walls.append(time.perf_counter() - began)
            cpus.append(time.process_time() - used)
        asked = server.tell("counters")
    app.close()
    wrong = {
        report.job: str(report.error) for report in reports if report.status.value != "unchanged"
    }
    return {
        "workload": name,
        "wall": statistics.median(walls),
        "wall_min": min(walls),
        "cpu": statistics.median(cpus),
        "cpu_min": min(cpus),
        "requests": asked["requests"] / ticks,
        "not_modified": asked["not_modified"] / ticks,
        "cost": asked["cost"] / ticks,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=30)
    parser.add_argument("--workloads", default="W1,W2,W6")
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--out", type=Path)
    asked, rows = parser.parse_args(), []
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as where,
        hub(Path(where) / "hub") as server,
    ):
        server.tell(f"latency?ms={asked.latency}")
        trip = round_trip(server, asked.ticks)
        print(
            (
                f"one bare request: {trip * 1000:.1f} ms; load {os.getloadavg()[0]:.1f}; medians "
                f"of {asked.ticks} ticks (least)\n"
            ),
            flush=True,
        )
        print(
            "| | wall ms | round trips | CPU ms | requests (304) | cost |\n"
            "| --- | --- | --- | --- | --- | --- |"
        )
        for name in asked.workloads.split(","):
            row = measure(name, server, Path(where), asked.latency, asked.ticks)
            rows.append({**row, "round_trip": trip})
            wall, cpu = (
                f"{row['wall'] * 1000:.1f} ({row['wall_min'] * 1000:.1f})",
                f"{row['cpu'] * 1000:.1f} ({row['cpu_min'] * 1000:.1f})",
            )
            print(
                (
                    f"| {name} | {wall} | {row['wall'] / trip:.2f} | {cpu} | {row['requests']:g} "
                    f"({row['not_modified']:g}) | {row['cost']:g} |"
                ),
                flush=True,
            )
    print(f"\npeak memory of the process: {rows[-1]['rss_mb']:.0f} MB")
    if asked.out is not None:
        asked.out.write_text(json.dumps(rows, indent=1))
    return 1 if any(row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
