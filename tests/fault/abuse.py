"""python3 dev faults abuse [--seconds N] [--seed N] [--without KIND ...]: a real daemon under
combined abuse, judged by its healthy jobs.

A hostile repository, a hostile server, hostile clients of the listener and, as root, a hostile user
work on one daemon at once, while healthy jobs run every 5 seconds. Prints its figures; exits 1 when
something was not held: a healthy run started later than its interval plus 5 seconds, more than 200
MB of memory, descriptors, threads or processes that stay when the abuse has ended, a healthy file
that is wrong, anything of another user's that changed, or an end by SIGTERM that is not 0.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml

from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from syncd.simulator.server import serve
from tests.fault.abusers import (
    NOBODY,
    OPERATOR,
    REPOSITORIES,
    SERVERS,
    Clients,
    ask,
    change,
    every,
    hostile_server,
    local_user,
    signed_push,
)
from tests.support.daemon import Running, daemon
from tests.support.push import SECRET
from tests.support.sync_env import SyncEnv

HEALTHY = 4
EVERY_SECONDS = 5.0
LATE_SECONDS = 5.0
MEMORY_BYTES = 200 << 20
SETTLE_SECONDS = 60.0  # connections, extra workers and children have to be gone by then
PROBE_SECONDS = 10.0
SLACK = {
    "descriptors": 12,
    "threads": 24,
    "processes": 0,
}  # kept connections; a thread of each request at once and of each worker is kept
PASSWORD, TOKEN = "a-password-for-the-page", "ghp_personal00000000000000000000000000"
CLIENTS = {
    "half": 0.05,
    "unread": 0.1,
    "guess": 0.02,
    "forge": 0.05,
    "flood": 0.02,
    "view": 0.2,
}  # seconds between two
USERS = ("links", "pipes", "sparse", "hard links")
KINDS = (*REPOSITORIES, *SERVERS, *CLIENTS, *USERS)


class Heard(GitHub):
    """A host that remembers when each repository's head was asked for:
    when its job's runs started.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads: dict[str, list[float]] = {}
        self.primary_limit = 10**9
        self.accounts.add_personal_token(TOKEN)

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "http://127.0.0.1",
    ) -> Answer:
        repo = re.match(r"/repos/acme/([^/]+)/commits/", target)
        if repo is not None:
            self.heads.setdefault(repo[1], []).append(time.monotonic())
        return super().handle(method, target, headers, body, origin)


@dataclass
class Level:
    """What the daemon holds."""

    descriptors: int
    threads: int
    processes: int

    @classmethod
    def of(cls, pid: int) -> Level:
        return cls(
            len(os.listdir(f"/proc/{pid}/fd")),
            len(os.listdir(f"/proc/{pid}/task")),
            len(descendants(pid)),
        )

    def over(self, before: Level) -> list[str]:
        """What is more than before, beyond the slack."""
        return [
            f"{name}: {getattr(self, name)} after {getattr(before, name)}"
            for name, slack in SLACK.items()
            if getattr(self, name) > getattr(before, name) + slack
        ]


def descendants(pid: int) -> list[int]:
    found = []
    for one in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(one), *descendants(int(one))]
    return found


def resident(pid: int) -> int:
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) << 10


@dataclass
class Verdict:
    """The figures, and what was not held."""

    done: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def judge(self, good: bool, text: str) -> None:
        if not good:
            self.violations.append(text)

    def __str__(self) -> str:
        lines = [*(f"{name:<28} {value}" for name, value in self.figures.items()), "what was done:"]
        lines += [f"    {count:>7} x {what}" for what, count in sorted(self.done.items())]
        return "\n".join(
            [
                *lines,
                *(f"NOT HELD: {one}" for one in self.violations),
                *([] if self.violations else ["all held"]),
            ]
        )


class Ground:
    """The folders, hosts and configuration of one trial. `kinds` are the abuses that take part."""

    def __init__(self, folder: Path, seed: int, kinds: set[str]) -> None:
        self.folder, self.config, self.kinds, self.seed = (
            folder,
            folder / "config.yaml",
            kinds,
            seed,
        )
        self.healthy, self.hostile = Heard(), Heard()
        self.repositories = [kind for kind in REPOSITORIES if kind in kinds]
        for number in range(HEALTHY):
            self.healthy.add_repo(f"acme/healthy-{number}", {"files/a": "0\n", "files/b": "b\n"})
        for kind in self.repositories:
            self.hostile.add_repo(f"acme/{kind}", {"files/a": "a\n"})
        self.sticky, self.home, self.victim = folder / "sticky", folder / "home", folder / "victim"
        self.users = [kind for kind in USERS if kind in kinds] if os.geteuid() == 0 else []
        if self.users:
            self._make_user_folders()

    def _make_user_folders(self) -> None:
        self.folder.chmod(0o755)
        self.sticky.mkdir()
        self.sticky.chmod(0o1777)
        for place in (
            self.home,
            self.home / "files",
            self.sticky / "swapped",
            self.sticky / "swapped/files",
        ):
            place.mkdir()
            os.chown(place, NOBODY, NOBODY)
        self.victim.mkdir(mode=0o750)
        os.chown(self.victim, 0, NOBODY)
        for name, mode in (
            ("secret", 0o600),
            ("readable", 0o660),
        ):  # what nobody may write, nobody may link
            (self.victim / name).write_text("another's\n")
            (self.victim / name).chmod(mode)
            os.chown(self.victim / name, 0, NOBODY)

    def victims(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything at the victim's folder: mode, owner and content."""
        found = {}
        for path in [self.victim, *self.victim.rglob("*")] if self.users else []:
            one = path.lstat()
            found[path.name] = (
                one.st_mode,
                one.st_uid,
                path.read_bytes() if stat.S_ISREG(one.st_mode) else b"",
            )
        return found

    def write(self, healthy: str, hostile: str, server: str) -> None:
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        identities = {
            name: {"token": {"file": str(token)}, "api": url}
            for name, url in (("good", healthy), ("odd", hostile), ("bad", server))
        }
        self.config.write_text(
            yaml.safe_dump(
                {
                    "version": "1",
                    "state": str(self.folder / "state"),
                    "github": identities,
                    "log": {"format": "json"},
                    "jobs": self._jobs(),
                    "web": {
                        "listen": "127.0.0.1:0",
                        "password": {"env": "WEB"},
                        "trusted_proxies": ["127.0.0.1"],
                        "show_diffs": True,
                        "webhook": {"path": "/github", "secret": {"env": "HOOK"}},
                    },
                }
            )
        )

    def _jobs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def job(name: str, identity: str, repo: str, to: Path, **more: Any) -> None:
            paths = [{"from": "files/", "to": f"{to}/"}]
            found[name] = {
                "as": identity,
                "repo": f"acme/{repo}",
                "ref": "main",
                "every": "5s",
                "paths": paths,
                **more,
            }

        for number in range(HEALTHY):
            job(
                f"healthy-{number}",
                "good",
                f"healthy-{number}",
                self.folder / f"dest/healthy-{number}",
            )
        for kind in self.repositories:
            job(kind, "odd", kind, self.folder / f"dest/{kind}", timeout="10s")
        for number in range(3 if self.kinds & set(SERVERS) else 0):
            job(
                f"server-{number}",
                "bad",
                f"server-{number}",
                self.folder / f"dest/server-{number}",
                timeout="5s",
            )
        if self.users:
            job("swapped", "good", "healthy-0", self.sticky / "swapped/files", timeout="10s")
            job("home", "good", "healthy-1", self.home / "files", timeout="10s")
        return found


class Trial:
    """One daemon, from its first healthy runs to its end."""

    def __init__(self, ground: Ground, running: Running, verdict: Verdict) -> None:
        self.ground, self.running, self.verdict = ground, running, verdict
        self.pid = running.process.pid
        said = next(
            line["message"]
            for line in reversed(running.lines)
            if line["message"].startswith("listening on ")
        )
        self.port = int(re.findall(r":(\d+)/", said)[0])
        self.memory, self.probes = [resident(self.pid)], list[float]()
        self.commits = 0

    def wait_for(
        self, what: str, is_so: Callable[[], bool], seconds: float = SETTLE_SECONDS
    ) -> bool:
        ends = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > ends or self.running.process.poll() is not None:
                self.verdict.judge(False, f"{what}: not within {seconds:.0f} s")
                return False
            time.sleep(0.2)
        return True

    def healthy_files_are_right(self) -> bool:
        for number in range(HEALTHY):
            repo = self.ground.healthy.repos[f"acme/healthy-{number}"]
            wanted = {
                path.removeprefix("files/"): node
                for path, node in repo.files_of[repo.head()].items()
            }
            place = self.ground.folder / f"dest/healthy-{number}"
            if (
                not place.is_dir()
                or {one.name: one.read_text() for one in place.iterdir()} != wanted
            ):
                return False
        return True

    def commit(self) -> None:
        """A healthy repository has something new."""
        self.commits += 1
        with self.ground.healthy._guard:
            self.ground.healthy.repos[f"acme/healthy-{self.commits % HEALTHY}"].commit(
                {"files/a": f"{self.commits}\n"}
            )
            self.ground.healthy.requests.clear()

    def probe(self) -> None:
        """Health and the webhook are asked by someone who means well,
        who tries again as a proxy would.
        """
        for act in (
            lambda: ask(self.port, "/healthz", PASSWORD, OPERATOR)[0] == 200,
            lambda: signed_push(self.port, len(self.probes)) == 202,
        ):
            began = time.monotonic()
            while True:
                with suppress(OSError, http.client.HTTPException):
                    if act():
                        break
                if time.monotonic() - began > 3 * PROBE_SECONDS:
                    break
                time.sleep(0.05)
            self.probes.append(time.monotonic() - began)

    def runs(self) -> str:
        """How the runs of each job ended, as the metrics say."""
        found: dict[str, list[str]] = {}
        with suppress(OSError, http.client.HTTPException):
            metrics = ask(self.port, "/metrics", PASSWORD, OPERATOR)[1].decode()
            for job, outcome, count in re.findall(
                r'^syncd_job_runs_total\{job="([^"]+)",outcome="([^"]+)"\} (\d+)',
                metrics,
                re.MULTILINE,
            ):
                if int(count):
                    found.setdefault(job, []).append(f"{count} {outcome}")
        return "; ".join(f"{job}: {', '.join(ends)}" for job, ends in found.items())

    def abuse(self, seconds: float) -> None:
        stop, done, kinds = threading.Event(), self.verdict.done, self.ground.kinds
        draw = random.Random(self.ground.seed)
        clients = Clients(self.port, PASSWORD, draw, done)
        work: list[tuple[float, Callable[[], None]]] = [
            (pause, getattr(clients, kind)) for kind, pause in CLIENTS.items() if kind in kinds
        ]
        work += [
            (1.0, self.commit),
            (1.0, self.probe),
            (0.5, lambda: self.memory.append(resident(self.pid))),
        ]
        if self.ground.repositories:
            work.append(
                (0.7, lambda: change(self.ground.hostile, self.ground.repositories, draw, done))
            )
        threads = [threading.Thread(target=every, args=(stop, *one), daemon=True) for one in work]
        with ExitStack() as stack:
            if self.ground.users:
                stack.enter_context(
                    local_user(
                        self.ground.sticky,
                        self.ground.home,
                        self.ground.victim,
                        self.ground.users,
                        self.ground.seed,
                        done,
                    )
                )
            for thread in threads:
                thread.start()
            stack.callback(clients.close)
            with suppress(subprocess.TimeoutExpired):
                self.running.process.wait(seconds)
            stop.set()
            for thread in threads:
                thread.join(4 * PROBE_SECONDS)


@contextmanager
def _servers(ground: Ground, done: Counter[str], stop: threading.Event) -> Iterator[None]:
    kinds = [kind for kind in SERVERS if kind in ground.kinds]
    with (
        serve(ground.healthy) as healthy,
        serve(ground.hostile) as hostile,
        hostile_server(stop, kinds or ["silence"], random.Random(ground.seed), done) as server,
    ):
        ground.write(healthy.url, hostile.url, server)
        yield


def trial(seconds: float, seed: int, kinds: set[str], folder: Path) -> Verdict:
    """One daemon is abused for so long; what came of it."""
    sys.setrecursionlimit(20_000)  # the hosts here, not the daemon
    verdict, over = Verdict(), threading.Event()
    ground = Ground(folder, seed, kinds)
    with (
        _servers(ground, verdict.done, over),
        daemon(cast(SyncEnv, ground), environ={"WEB": PASSWORD, "HOOK": SECRET}) as running,
    ):
        one = Trial(ground, running, verdict)
        one.wait_for("the first healthy runs", one.healthy_files_are_right)
        before, victims = Level.of(one.pid), ground.victims()
        ground.healthy.heads.clear()
        began = time.monotonic()
        one.abuse(seconds)
        ended = time.monotonic()
        over.set()
        _judge(one, before, victims, began, ended)
    return verdict


def _judge(
    one: Trial, before: Level, victims: Mapping[str, Any], began: float, ended: float
) -> None:
    verdict, ground = one.verdict, one.ground
    alive = one.running.process.poll() is None
    verdict.judge(alive, "the daemon did not live")
    latest = 0.0
    for name in [f"healthy-{number}" for number in range(HEALTHY)]:
        moments = [began, *[at for at in ground.healthy.heads.get(name, []) if at <= ended], ended]
        latest = max(latest, *(after - earlier for earlier, after in pairwise(moments)))
    verdict.figures["longest pause between runs"] = (
        f"{latest:.1f} s (interval {EVERY_SECONDS:.0f} s)"
    )
    verdict.judge(
        latest <= EVERY_SECONDS + LATE_SECONDS,
        f"a healthy run started {latest - EVERY_SECONDS:.1f} s late",
    )
    slowest = max(one.probes, default=0.0)
    verdict.figures["health and webhook"] = f"{len(one.probes)} asked, slowest {slowest:.1f} s"
    verdict.judge(slowest <= PROBE_SECONDS, f"health or the webhook answered after {slowest:.1f} s")
    if not alive:
        return
    verdict.figures["memory"] = f"{max(one.memory) >> 20} MiB at most, {one.memory[0] >> 20} before"
    verdict.judge(max(one.memory) <= MEMORY_BYTES, f"{max(one.memory) >> 20} MiB of memory")
    verdict.figures["runs"] = one.runs()
    one.wait_for("healthy files are right", one.healthy_files_are_right)
    one.wait_for(
        "descriptors, threads and processes go back", lambda: not Level.of(one.pid).over(before)
    )
    verdict.figures["before, after"] = f"{before}, {Level.of(one.pid)}"
    verdict.violations += Level.of(one.pid).over(before)
    verdict.judge(
        ground.victims() == victims,
        f"another user's files were changed: {victims} is {ground.victims()}",
    )
    _judge_end(one)


def _judge_end(one: Trial) -> None:
    began = time.monotonic()
    code = one.running.ends()
    one.verdict.figures["end by SIGTERM"] = f"{code} after {time.monotonic() - began:.1f} s"
    one.verdict.judge(code == 0, f"SIGTERM ended it with {code}")
    for line in one.running.lines:
        if "a bug in syncd" in line["message"] or line.get("level") == "raw":
            one.verdict.violations.append(f"said: {line['message'][:300]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 dev faults abuse", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the abuse lasts")
    parser.add_argument(
        "--seed", type=int, default=int.from_bytes(os.urandom(3)), help="what is drawn; printed"
    )
    parser.add_argument(
        "--without", action="append", default=[], choices=KINDS, help="leave this out"
    )
    parser.add_argument(
        "--only", action="append", default=[], choices=KINDS, help="nothing but this"
    )
    chosen = parser.parse_args(arguments)
    kinds = set(chosen.only or KINDS) - set(chosen.without)
    print(
        (
            f"seed {chosen.seed}, {chosen.seconds:.0f} s, "
            f"{'root' if os.geteuid() == 0 else 'no root: without a local user'}"
        ),
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="syncd-abuse-"))
    try:
        verdict = trial(chosen.seconds, chosen.seed, kinds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(verdict)
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
