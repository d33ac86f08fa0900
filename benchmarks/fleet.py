#!/usr/bin/env python3
"""From a push to its bytes on the disks of many agents, beside the same runs from a local source.

`speed`: a controller and N agents, each a process of its own (`syncd run`, forked from one that has
imported everything), on one PostgreSQL and one machine. Each push changes every file, and is
announced to the controller by a signed delivery. **local** is the same agents without a database: a
byte in a pipe is the notice, and manifest and contents are read from a folder, unsigned. What the
two differ in is the share of database and notices.

`readers`: N agents that only read, as threads over connections of their own: a notice, the signed
revision, its manifest and contents, all checked, and nothing written. It shows what one PostgreSQL
serves.

python benchmarks/fleet.py speed [--agents 1,10,100,200] [--pushes 10] [--out FILE] [--plot FILE]
python benchmarks/fleet.py readers [--agents 1000] [--pushes 5]

It needs PostgreSQL's server (Debian: apt install postgresql).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

if TYPE_CHECKING:
    from syncd.clock import Clock
    from syncd.fleet.source import FleetSource
    from syncd.models import Job
    from tests.support.fleet import Fleet, FleetMachines
    from tests.support.sync_env import SyncEnv

FILES, FILE_BYTES = 20, 16 << 10
POLL_SECONDS = 0.005
DEADLINE_SECONDS = 180.0
REST_SECONDS = 2.5  # notices start two runs of a job no closer than 2 s
NAMES = [f"nginx/{number:02d}.conf" for number in range(FILES)]


def content(number: int) -> dict[str, bytes]:
    """The files of a push. Random letters: what compresses well would be too easy."""
    source = random.Random(number)
    return {
        name: f"push {number}\n".encode() + source.randbytes(FILE_BYTES // 2 - 8).hex().encode()
        for name in NAMES
    }


# --- agents as processes --------------------------------------------------------------------------


class Host:
    """A process that has imported syncd, and forks a `syncd run` for each request."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writing)
            self._serve(os.fdopen(reading))
        os.close(reading)

    def start(self, config: Path, local: Path | None) -> None:
        """Start an agent; with `local`, one that reads that folder instead of a database."""
        request = json.dumps([str(config), None if local is None else str(local)])
        os.write(self._writing, f"{request}\n".encode())

    def stop(self) -> None:
        """End all agents of this host, and the host."""
        os.close(self._writing)
        os.waitpid(self._pid, 0)

    def _serve(self, requests: Any) -> None:
        import syncd.cli.run
        import syncd.daemon.fleet_agent
        import syncd.wiring.fleet  # noqa: F401

        gc.freeze()
        children = []
        for line in requests:
            config, local = json.loads(line)
            pid = os.fork()
            if pid == 0:
                requests.close()
                _be_agent(config, local)
            children.append(pid)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)


def _be_agent(config: str, local: str | None) -> None:
    log = os.open(f"{config}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if local is not None:
        _read_locally(Path(local), Path(config).parent / "wake")
    from syncd.cli.main import run

    try:
        os._exit(run(["-c", config, "run"]))
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def _read_locally(folder: Path, wake: Path) -> None:
    """Replace database and notices by a folder and a pipe. All else of the agent stays."""
    import syncd.daemon.fleet_agent as agent
    import syncd.daemon.fleet_reports as reports
    import syncd.wiring.fleet as wiring
    from syncd.fleet.link import Link
    from syncd.fleet.manifest import ManifestEntry, Revision
    from syncd.fleet.source import FleetSource

    class LocalSource(FleetSource):
        def _revision(self, commit: str | None = None) -> Revision:
            job, repo, ref, found, number, roots, digest = json.loads((folder / "head").read_text())
            return Revision(job, repo, ref, found, number, tuple(roots), digest)

        def _manifest(self, revision: Revision) -> Mapping[str, ManifestEntry]:
            rows = json.loads((folder / revision.commit / "manifest").read_text())
            entries = [ManifestEntry(*row) for row in rows]
            self._entries = {one.path: one for one in entries}
            return self._entries

        def fetch(self, repo: str, commit: str, wanted: Any, blobs: Any, deadline: Any) -> int:
            missing = {one.entry.id for one in wanted if not blobs.has(one.entry.id)}
            by_id = {one.blob: one for one in self._manifest(self._revision(commit)).values()}
            with blobs.bulk_writer() as writer:
                for blob in missing:
                    data = (folder / commit / blob).read_bytes()
                    writer.add(blob, [data], by_id[blob].size)
            return sum(by_id[blob].size for blob in missing)

    class LocalNotices:
        def __init__(self, link: Link, clock: object, on_notice: Callable[[str | None], None]):
            self._on_notice = on_notice
            self._pipe = os.open(wake, os.O_RDWR)

        def wait(self) -> float:
            os.read(self._pipe, 1)
            self._on_notice("nginx")
            return 0.0

    @contextmanager
    def begin(_self: Link) -> Iterator[None]:
        yield None

    parts: list[tuple[object, str, object]] = [
        (wiring, "FleetSource", LocalSource),
        (agent, "Notices", LocalNotices),
        (reports, "save_report", lambda *_: None),
        (Link, "begin", begin),
    ]
    for holder, name, part in parts:
        setattr(holder, name, part)


# --- what arrives ---------------------------------------------------------------------------------


class Watch:
    """Looks at the agents' folders until each has every byte of a push."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._last = {folder: folder / NAMES[-1].removeprefix("nginx/") for folder in folders}

    def arrivals(self, files: Mapping[str, bytes]) -> list[float]:
        """The monotonic time at which each agent was seen with every byte, in order."""
        expected = {name.removeprefix("nginx/"): data for name, data in files.items()}
        waiting = dict.fromkeys(self._last, 0)
        found: list[float] = []
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while waiting:
            for folder in list(waiting):
                now = time.monotonic()
                if self._is_new(folder, waiting) and _has(folder, expected):
                    found.append(now)
                    del waiting[folder]
            if time.monotonic() > ends_at:
                sys.exit(f"{len(waiting)} agents have not got the push, e.g. {next(iter(waiting))}")
            time.sleep(POLL_SECONDS)
        return found

    def _is_new(self, folder: Path, waiting: dict[Path, int]) -> bool:
        """Whether the last file is another one than at the last look."""
        with suppress(OSError):
            inode = self._last[folder].stat().st_ino
            changed = inode != waiting[folder]
            waiting[folder] = inode
            return changed
        return False


def _has(folder: Path, expected: Mapping[str, bytes]) -> bool:
    with suppress(OSError):
        return all((folder / name).read_bytes() == data for name, data in expected.items())
    return False


# --- speed ----------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for count in map(int, options.agents.split(",")):
        for kind in ("local", "fleet"):
            measure = local_round if kind == "local" else fleet_round
            row = {"kind": kind, "agents": count, **measure(count, options.pushes)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.plot is not None:
        options.plot.write_text(plot(rows))
    return rows


def local_round(count: int, pushes: int) -> dict[str, Any]:
    """The runs of N agents whose source is a folder."""
    host = Host()
    with tempfile.TemporaryDirectory(prefix="syncd-fleet-") as temp:
        source = Path(temp) / "source"
        source.mkdir()
        envs = [
            agent_config(Path(temp) / f"a{number:03d}", "postgresql://nobody@/none?host=/nowhere")
            for number in range(count)
        ]
        publish_locally(source, 0)
        for env in envs:
            os.mkfifo(env / "wake")
            host.start(env / "config.yaml", source)
        watch = Watch([env / "dest" for env in envs])
        watch.arrivals(content(0))
        pipes = [os.open(env / "wake", os.O_RDWR) for env in envs]
        samples: list[float] = []
        last: list[float] = []
        for number in range(1, pushes + 1):
            time.sleep(REST_SECONDS)
            publish_locally(source, number)
            began = time.monotonic()
            for pipe in pipes:
                os.write(pipe, b"x")
            seconds = [at - began for at in watch.arrivals(content(number))]
            samples += seconds
            last.append(max(seconds))
        host.stop()
        for pipe in pipes:
            os.close(pipe)
    return {"push_to_disk": figures(samples), "last": figures(last)}


def publish_locally(source: Path, number: int) -> None:
    import hashlib

    from syncd.fleet.manifest import ManifestEntry, manifest_digest
    from syncd.git_objects import FILE, blob_id

    commit = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    folder = source / commit
    folder.mkdir()
    entries = []
    for name, data in content(number).items():
        blob = blob_id(data)
        (folder / blob).write_bytes(data)
        entries.append(ManifestEntry(name, FILE, blob, hashlib.sha256(data).hexdigest(), len(data)))
    rows = [[one.path, one.mode, one.blob, one.sha256, one.size] for one in entries]
    (folder / "manifest").write_text(json.dumps(rows))
    head = ["nginx", "acme/infra", "main", commit, number + 1, ["nginx/"]]
    (source / "new").write_text(json.dumps([*head, manifest_digest(["nginx/"], entries)]))
    (source / "new").rename(source / "head")


def agent_config(folder: Path, address: str, key: str | None = None) -> Path:
    """Write the configuration of an agent; return its folder."""
    import yaml

    from tests.support.fleet import new_signer, secret_file

    (folder / "dest").mkdir(parents=True)
    paths = [{"from": "nginx/", "to": f"{folder}/dest/"}]
    value = {
        "version": 1,
        "state": f"{folder}/state",
        "fleet": {
            "role": "agent",
            "database": {"file": secret_file(folder / "database", address)},
            "trust": [key or new_signer().public_key],
        },
        "jobs": {"nginx": {"repo": "acme/infra", "ref": "main", "every": "1h", "paths": paths}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(value))
    return folder


def fleet_round(count: int, pushes: int) -> dict[str, Any]:
    """The runs of N agents of a fleet: all of it, from a push at GitHub."""
    host = Host()
    with fleet_of(count) as (fleet, stand, folder), ExitStack() as stack:
        from tests.support.daemon import daemon

        controller = stack.enter_context(daemon(stand.controller))
        said = [line["message"] for line in controller.lines]
        where = next(text for text in said if text.startswith("listening on"))
        port = int(re.findall(r":(\d+)/", where)[0])
        controller.says("published")
        grant_all(fleet, count)
        key = stand.signer.public_key
        envs = []
        for number in range(count):
            address = fleet.address(agent_name(number))
            envs.append(agent_config(folder / f"a{number:03d}", address, key))
        for env in envs:
            host.start(env / "config.yaml", None)
        watch = Watch([env / "dest" for env in envs])
        watch.arrivals(content(0))
        times = [one_push(stand, fleet, port, watch, number + 1) for number in range(pushes)]
        host.stop()
    whole = [seconds for one in times for seconds in one[2]]
    return {
        "push_to_published": figures([one[1] for one in times]),
        "published_to_disk": figures([at - one[1] for one in times for at in one[2]]),
        "push_to_disk": figures(whole),
        "last": figures([max(one[2]) for one in times]),
        "requests_a_push": statistics.mean(one[0] for one in times),
    }


def one_push(
    stand: FleetMachines, fleet: Fleet, port: int, watch: Watch, number: int
) -> tuple[int, float, list[float]]:
    """The requests at GitHub, the seconds until the revision is published, and until each disk."""
    from tests.support.push import deliver, event_of

    time.sleep(REST_SECONDS)
    stand.controller.github.forget_requests()
    published: list[float] = []
    heard = threading.Thread(target=_hear, args=(fleet, published))
    files = {name: data.decode() for name, data in content(number).items()}
    heard.start()
    while not published:  # it listens
        time.sleep(0.001)
    stand.controller.repo.commit(files, f"push {number}")
    began = time.monotonic()
    deliver(port, event_of(stand.controller.repo))
    seconds = [at - began for at in watch.arrivals(content(number))]
    heard.join()
    return len(stand.controller.github.requests), published[1] - began, seconds


def _hear(fleet: Fleet, times: list[float]) -> None:
    import psycopg

    from syncd.fleet.schema import CHANNEL

    with psycopg.connect(fleet.address("c1"), autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        times.append(time.monotonic())
        for _ in connection.notifies(timeout=DEADLINE_SECONDS, stop_after=1):
            times.append(time.monotonic())


@contextmanager
def fleet_of(count: int) -> Iterator[tuple[Fleet, FleetMachines, Path]]:
    """A PostgreSQL with logins of N agents, a stand-in for GitHub, and a controller's settings."""
    from tests.support import postgresql
    from tests.support.fleet import machines, made_fleet
    from tests.support.push import SECRET
    from tests.support.sync_env import sync_env

    postgresql.SETTINGS = postgresql.SETTINGS.replace("300", str(count + 100))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-fleet-")))
        server = stack.enter_context(postgresql.cluster())
        fleet = made_fleet(server, "syncd")
        for number in range(count):
            name = agent_name(number)
            server.execute(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 3 IN ROLE syncd_agent")
        env: SyncEnv = stack.enter_context(sync_env(folder / "c1"))
        files = {name: data.decode() for name, data in content(0).items()}
        env.repo.commit(files, "push 0", whole=True)
        (env.folder / "secret").write_text(SECRET)
        (env.folder / "secret").chmod(0o600)
        env.extra["web"] = {
            "listen": "127.0.0.1:0",
            "webhook": {"path": "/github", "secret": {"file": str(env.folder / "secret")}},
        }
        env.extra["log"] = {"format": "json"}
        stand = machines(fleet, env)
        env.write_config(every="1d")
        yield fleet, stand, folder


def agent_name(number: int) -> str:
    return f"a{number:04d}"


def grant_all(fleet: Fleet, count: int) -> None:
    from syncd.fleet import grants

    database = fleet.database("c1")
    with database.begin() as connection:
        names = [agent_name(number) for number in range(count)]
        grants.grant(connection, names, ["nginx"], "benchmark")
    database.close()


def figures(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and the largest, in seconds."""
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, int(len(ordered) * 0.99))
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[at], 3),
        "max": round(ordered[-1], 3),
    }


# --- readers --------------------------------------------------------------------------------------


def readers(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for count in map(int, options.agents.split(",")):
        rows.append({"readers": count, **readers_round(count, options.pushes)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def readers_round(count: int, pushes: int) -> dict[str, Any]:
    """N threads in processes of 50 wait for a notice, then read and check all of a revision."""
    with fleet_of(count) as (fleet, stand, _):
        from tests.support.fleet import Publisher, job_of

        publisher = Publisher(fleet, stand.signer)
        job = job_of(ref="main")
        publisher.publish(job, content(0), f"{0:040x}")
        grant_all(fleet, count)
        groups = [range(at, min(count, at + READERS)) for at in range(0, count, READERS)]
        hosts = [ReaderHost(fleet, group, stand.signer.public_key) for group in groups]
        for host in hosts:
            host.wait_ready()
        times = []
        for number in range(1, pushes + 1):
            time.sleep(REST_SECONDS)
            began = time.monotonic()
            publisher.publish(job, content(number), f"{number:040x}")
            done = time.monotonic()
            times.append((done - began, [at - done for host in hosts for at in host.arrivals()]))
        for host in hosts:
            host.stop()
        publisher.close()
    return {
        "publish": figures([one[0] for one in times]),
        "published_to_checked": figures([at for one in times for at in one[1]]),
        "last": figures([max(one[1]) for one in times]),
    }


READERS = 50


class ReaderHost:
    """A process with a connection and a thread for each of its agents."""

    def __init__(self, fleet: Fleet, numbers: range, key: str) -> None:
        self._numbers = numbers
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            _be_readers(fleet, numbers, key, writing)
        os.close(writing)
        self._lines = os.fdopen(reading)

    def wait_ready(self) -> None:
        """Wait until each agent listens."""
        for _ in self._numbers:
            self._lines.readline()

    def arrivals(self) -> list[float]:
        """The monotonic time at which each agent had checked the revision."""
        return [float(self._lines.readline()) for _ in self._numbers]

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _be_readers(fleet: Fleet, numbers: range, key: str, out: int) -> None:
    threads = [
        threading.Thread(target=_read_for_ever, args=(fleet, agent_name(number), key, out))
        for number in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _read_for_ever(fleet: Fleet, name: str, key: str, out: int) -> None:
    from syncd.clock import SystemClock
    from syncd.deadline import Deadline
    from syncd.fleet.link import Link
    from syncd.fleet.notices import Notices
    from syncd.fleet.signing import TrustedKeys
    from syncd.fleet.source import FleetSource
    from tests.support.fleet import job_of

    clock, woken = SystemClock(), threading.Event()
    link = Link(fleet.database(name, 1), clock)
    job = job_of(ref="main")
    source = FleetSource(job, link, TrustedKeys([key]), clock)
    notices = Notices(link, clock, lambda _job: woken.set())
    head = None
    while True:
        notices.wait()
        if head is None and notices.works:  # it has heard itself
            head = source.resolve(job.repo, job.ref, None, Deadline(clock, 60.0))
            os.write(out, b"ready\n")
        elif head is not None and woken.is_set():
            woken.clear()
            head = source.resolve(job.repo, job.ref, head, Deadline(clock, 60.0))
            _read_all(source, job, head.commit, clock)
            os.write(out, f"{time.monotonic()}\n".encode())


def _read_all(source: FleetSource, job: Job, commit: str, clock: Clock) -> None:
    """Read the manifest and every content of a revision, checked."""
    from syncd.deadline import Deadline
    from syncd.ports import BlobRequest

    deadline = Deadline(clock, 60.0)
    memory: Any = Memory()  # the parts of `Blobs` that a fleet's source uses
    listing = source.listing(job.repo, commit, job.paths, memory, deadline)
    wanted = [BlobRequest(path, entry) for path, entry in listing.entries.items()]
    source.fetch(job.repo, commit, wanted, memory, deadline)


class Memory:
    """Contents that are forgotten at once: what a reader's `Blobs` needs here."""

    def has(self, blob: str) -> bool:
        return False

    @contextmanager
    def bulk_writer(self) -> Iterator[Memory]:
        yield self

    def add(self, blob: str, chunks: Sequence[bytes], size: int) -> None:
        """Forget it."""


# --- the plot -------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 340, 220, 60, 60


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Two panels over the number of agents: seconds to the last disk, and requests at GitHub."""
    from growth import STYLE

    last = {
        kind: [(r["agents"], r["last"]["p50"]) for r in rows if r["kind"] == kind] for kind in KINDS
    }
    asked = {"fleet": [(r["agents"], r["requests_a_push"]) for r in rows if r["kind"] == "fleet"]}
    counts = sorted({row["agents"] for row in rows})
    seconds = max(at for points in last.values() for _, at in points)
    requests = 2 * max(at for _, at in asked["fleet"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (WIDTH + LEFT) + 60} '
        f'{HEIGHT + TOP + 90}" font-family="sans-serif" font-size="11">',
        "<title>A push on many agents: requests at GitHub do not grow</title>",
        STYLE,
        '<rect class="page" width="100%" height="100%" rx="8"/>',
        _panel(last, counts, LEFT, "seconds from a push to the last disk", seconds),
        _panel(asked, counts, 2 * LEFT + WIDTH + 20, "requests at GitHub for a push", requests),
    ]
    for number, (colour, text) in enumerate(KINDS.values()):
        x, y = LEFT + number * 250, HEIGHT + TOP + 70
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="4" class="{colour}"/>'
            f'<text x="{x + 10}" y="{y}" class="ink">{text}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


KINDS = {
    "fleet": ("green", "fleet: push, controller, database, agents"),
    "local": ("blue", "the same agents, from a local folder"),
}


def _panel(
    lines: Mapping[str, Sequence[tuple[int, float]]],
    counts: Sequence[int],
    left: int,
    title: str,
    highest: float,
) -> str:
    across = {n: left + WIDTH * at / (len(counts) - 1 or 1) for at, n in enumerate(counts)}
    parts = [f'<text x="{left}" y="{TOP - 20}" font-size="13" class="ink">{title}</text>']
    for count, x in across.items():
        parts.append(
            f'<text x="{x:.0f}" y="{TOP + HEIGHT + 18}" text-anchor="middle" class="dim">'
            f"{count} agents</text>"
        )
    for step in range(5):
        y, value = TOP + HEIGHT * (1 - step / 4), highest * step / 4
        parts.append(
            f'<line x1="{left}" y1="{y:.0f}" x2="{left + WIDTH}" y2="{y:.0f}" class="edge-line"/>'
            f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end" class="dim">{value:.1f}</text>'
        )
    for kind, points in lines.items():
        colour = KINDS[kind][0]
        spots = [(across[n], TOP + HEIGHT * (1 - value / highest)) for n, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke-width="2" class="{colour}-line"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="{colour}"/>' for x, y in spots]
    return "\n".join(parts)


# --- the command line -----------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, work, agents, pushes in (
        ("speed", speed, "1,10,100,200", 10),
        ("readers", readers, "1000", 5),
    ):
        one = commands.add_parser(name)
        one.add_argument("--agents", default=agents, help="numbers of agents, with commas")
        one.add_argument("--pushes", type=int, default=pushes)
        one.add_argument("--out", type=Path, help="write the figures here, as JSON")
        one.add_argument("--plot", type=Path, help="write a plot here, as SVG")
        one.set_defaults(work=work)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    rows = options.work(options)
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
