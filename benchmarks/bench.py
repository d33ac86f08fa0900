#!/usr/bin/env python3
"""What syncd costs beside what people use instead, on the same work, against the same server, in
one run: `make bench`, or `./dev bench [options]`.

    --workloads W1,W3   only these            --reps 5         measured runs of each
    --latency 0,30      milliseconds that every request waits
    --peers a,b         only these            --all            also peers that take minutes
    --out FILE          the figures as JSON   --add NAME=COMMAND   another peer

A peer is called as COMMAND JOBS STATE: JOBS has a line `repository, destination, paths` a job,
split by tabs; HUB_URL and HUB_TOKEN are in the environment. Peers take turns within each round, so
that a busy machine is busy for all of them: read ratios, not seconds. After each workload every
destination is compared with what was pushed. Peers that are not installed are left out by name.

Beside it: `benchmarks/warm.py` (a process that stays), `benchmarks/growth.py` (how cost grows with
files, jobs and repositories) and, where it is there, `benchmarks/price_of_safety.py` (what writing
safely costs).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from workloads import TOKEN, WORKLOADS, Workload, pushed, repositories  # noqa: E402

PEERS = HERE / "peers"
SYNCD = str(Path(sys.executable).with_name("syncd"))
MINUTES = {("pygithub-naive", name) for name in ("W2", "W4", "W6")}  # a request a file, in turn
MEASURED = ("wall", "cpu", "rss_mb", "requests", "not_modified", "cost", "bytes")


@dataclass(frozen=True)
class Peer:
    """`needs`: programs, or `python:MODULE`.

    `as_app` and `is_syncd` say what configuration it gets.
    """

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    is_syncd: bool = False
    as_app: bool = False

    def missing(self) -> str | None:
        for one in self.needs:
            there = (
                importlib.util.find_spec(one.removeprefix("python:"))
                if one.startswith("python:")
                else shutil.which(one)
            )
            if not there:
                return one.removeprefix("python:")
        return None


KNOWN: dict[str, Peer] = {
    "syncd": Peer((SYNCD,), is_syncd=True),
    "syncd-app": Peer((SYNCD,), is_syncd=True, as_app=True),
    "git-full": Peer((str(PEERS / "git_full.sh"),), ("git",)),
    "git-sparse": Peer((str(PEERS / "git_sparse.sh"),), ("git",)),
    "tarball": Peer((str(PEERS / "tarball.sh"),), ("curl", "tar")),
    "pygithub": Peer((sys.executable, str(PEERS / "pygithub.py")), ("python:github",)),
    "pygithub-naive": Peer((sys.executable, str(PEERS / "pygithub_naive.py")), ("python:github",)),
}


class Hub:
    """The server process of hub.py."""

    def __init__(self, folder: Path, which: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent)))}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "hub.py"), str(folder), which],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            sys.exit("the stand-in did not start")

    def tell(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/_bench/{what}") as answer:
            found: dict[str, int] = json.load(answer)
            return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def hub(folder: Path, which: str = "measured") -> Iterator[Hub]:
    made = Hub(folder, which)
    try:
        yield made
    finally:
        made.close()


class Place:
    """Where one peer keeps its files and its memory in one workload."""

    def __init__(
        self, folder: Path, peer: Peer, workload: Workload, server: Hub, key: Path
    ) -> None:
        self._folder, self._peer, self._workload, self._server, self._key = (
            folder,
            peer,
            workload,
            server,
            key,
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self.environment = {
            **kept,
            "HUB_URL": server.url,
            "HUB_TOKEN": TOKEN,
            "HOME": str(folder / "home"),
        }

    def dest(self, repo: str) -> Path:
        return self._folder / "dest" / repo.split("/")[1]

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self) -> list[str]:
        for name in ("dest", "state", "home"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._peer.is_syncd:
            config = self._folder / "config.yaml"
            if not config.exists():
                config.write_text(
                    "".join(
                        f"{key}: {json.dumps(value)}\n" for key, value in self._config().items()
                    )
                )
            return [*self._peer.command, "-q", "-c", str(config), "sync"]
        jobs = self._folder / "jobs.tsv"
        jobs.write_text(
            "".join(
                f"{repo}\t{self.dest(repo)}\t{' '.join(paths)}\n"
                for repo, paths in self._workload.jobs
            )
        )
        return [*self._peer.command, str(jobs), str(self._folder / "state")]

    def _config(self) -> dict[str, Any]:
        identity = (
            {"app_id": "12345", "installation_id": "42", "private_key": str(self._key)}
            if self._peer.as_app
            else {"token": {"env": "HUB_TOKEN"}}
        )
        jobs = {
            f"j{number}": {
                "as": "hub",
                "repo": repo,
                "ref": "main",
                "every": "5m",
                "paths": [{"from": path, "to": f"{self.dest(repo)}/{path}"} for path in paths],
            }
            for number, (repo, paths) in enumerate(self._workload.jobs)
        }
        return {
            "version": 1,
            "state": str(self._folder / "state"),
            "workers": 32,
            "requests_at_once": 32,
            "github": {"hub": {**identity, "api": self._server.url}},
            "jobs": jobs,
        }

    def wrong(self, expected: Mapping[str, Mapping[str, bytes]]) -> str | None:
        """The first file that is not as it was pushed."""
        for repo, paths in self._workload.jobs:
            for path, content in expected[repo].items():
                file = self.dest(repo) / path
                if any(
                    path == one or (one.endswith("/") and path.startswith(one)) for one in paths
                ) and not (file.is_file() and file.read_bytes() == content):
                    return str(file)
        return None


def measured(place: Place, server: Hub) -> dict[str, Any]:
    """One run: what it cost, as we and as the server saw it."""
    with tempfile.NamedTemporaryFile() as result:
        server.tell("reset")
        command = [
            sys.executable,
            "-I",
            "-S",
            str(HERE / "measure.py"),
            result.name,
            *place.command(),
        ]
        done = subprocess.run(
            command, env=place.environment, capture_output=True, text=True, check=False
        )
        found: dict[str, Any] = json.loads(Path(result.name).read_text())
    if found["code"]:
        print(f"  !! exit {found['code']}: {(done.stdout + done.stderr)[-500:]}", flush=True)
    return {**found, **server.tell("counters")}


def run(
    name: str,
    peers: Mapping[str, Peer],
    server: Hub,
    folder: Path,
    latency: float,
    reps: int,
    expected: dict[str, dict[str, bytes]],
) -> list[dict[str, Any]]:
    """Every peer's medians over `reps` rounds, after one that is not measured (two for a tick:
    the first brings the files).
    """
    workload = WORKLOADS[name]
    places = {
        one: Place(folder / name / one, peer, workload, server, folder / "app.pem")
        for one, peer in peers.items()
    }
    rounds: dict[str, list[dict[str, Any]]] = {one: [] for one in peers}
    warm_up = {"tick": 2, "push": 2, "fresh": 1}[workload.before]
    for number in range(-warm_up, reps):
        server.tell(f"latency?ms={latency if number >= 0 else 0}")
        if workload.before == "push" and number >= 0:
            repo, serial = workload.jobs[0][0], number + int(latency) * 100
            server.tell(f"commit?repo={repo}&number={serial}")
            expected[repo].update(pushed(serial))
        order = list(places)
        turn = number % len(order)
        for one in order[turn:] + order[:turn]:
            if workload.before == "fresh":
                places[one].clear()
            found = measured(places[one], server)
            if number >= 0:
                rounds[one].append(found)
    rows = []
    for one, runs in rounds.items():
        good = [each for each in runs if each["code"] == 0]
        wrong = places[one].wrong(expected)
        row = {
            "workload": name,
            "latency_ms": latency,
            "peer": one,
            "runs": len(good),
            "wrong": wrong,
        }
        row |= (
            {key: statistics.median(each[key] for each in good) for key in MEASURED} if good else {}
        )
        row |= (
            {
                "wall_min": min(each["wall"] for each in good),
                "wall_max": max(each["wall"] for each in good),
            }
            if good
            else {}
        )
        rows.append(row)
        places[one].clear()
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One workload as Markdown; `x` is how many times the peer's wall and CPU are syncd's."""
    ours = next((row for row in rows if row["peer"] == "syncd" and row["runs"]), None)
    lines = [
        "| | wall s (least–most) | x | CPU s | x | requests (304) | cost | KB | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if not row["runs"] or row["wrong"]:
            lines.append(
                f"| {row['peer']} | failed: "
                f"{'wrong bytes in ' + row['wrong'] if row['wrong'] else 'see above'} | | | | | | "
                "| |"
            )
            continue
        times = [
            f"{row[key] / ours[key]:.2f}" if ours and ours[key] else "" for key in ("wall", "cpu")
        ]
        wall = f"{row['wall']:.3f} ({row['wall_min']:.3f}–{row['wall_max']:.3f})"
        asked = f"{row['requests']:.0f} ({row['not_modified']:.0f})"
        lines.append(
            f"| {row['peer']} | {wall} | {times[0]} | {row['cpu']:.3f} | {times[1]} | {asked} | "
            f"{row['cost']:.0f} | {row['bytes'] / 1000:,.0f} | {row['rss_mb']:.0f} |"
        )
    return "\n".join(lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--peers", default=",".join(KNOWN))
    parser.add_argument("--latency", default="0,30")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--add", action="append", default=[])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    asked, rows = options(), []
    peers = {name: KNOWN[name] for name in asked.peers.split(",") if name}
    for one in asked.add:
        name, _, command = one.partition("=")
        peers[name] = Peer(tuple(command.split()))
    for name in [name for name, peer in peers.items() if peer.missing()]:
        print(f"left out: {name} ({peers.pop(name).missing()} is not installed)", flush=True)
    print(
        (
            f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, medians of {asked.reps}"
        ),
        flush=True,
    )
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as where,
        hub(Path(where) / "hub") as server,
    ):
        expected = {name: dict(files) for name, files in repositories()}
        for name in asked.workloads.split(","):
            chosen = {
                one: peer
                for one, peer in peers.items()
                if (asked.all or (one, name) not in MINUTES) and (not peer.as_app or name == "W1")
            }
            for latency in map(float, asked.latency.split(",")):
                print(f"\n{name}: {WORKLOADS[name].title}, {latency:g} ms a request\n", flush=True)
                found = run(
                    name, chosen, server, Path(where) / "hub", latency, asked.reps, expected
                )
                print(table(found), flush=True)
                rows += found
                if asked.out is not None:
                    asked.out.write_text(json.dumps(rows, indent=1))
    return 1 if any(row["wrong"] or not row["runs"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
