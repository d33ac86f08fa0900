"""A daemon of many repositories over real sockets, under a clock of ours and GitHub's limits.

One thread does everything, so each run of it is the same. Time jumps to what comes next.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config.load import load_config
from syncd.config.model import Config
from syncd.daemon.daemon import Daemon
from syncd.models import RunReport
from syncd.simulator.github import GitHub
from syncd.simulator.server import ServerUrls, serve
from tests.support.clock import FakeClock
from tests.support.fork_server import forked_supervisors
from tests.support.scheduler import under
from tests.support.sync_env import app_with_known_key


@dataclass
class PolledDaemon:
    """`reports` are those of the runs since `forget`."""

    folder: Path
    clock: FakeClock
    github: GitHub
    served: ServerUrls
    repositories: int
    schedule: dict[str, Any]
    reports: list[RunReport] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def config(self) -> Config:
        """The configuration; a folder, because one file may not be so large."""
        path = self.folder / "conf"
        if not path.exists():
            path.mkdir()
            identity = {"app_id": "1", "installation_id": "42", "api": self.served.url}
            key = str(self.folder / "app.pem")
            value = {
                "version": 1,
                "state": str(self.folder / "state"),
                "github": {"ops": {**identity, "private_key": key}},
                "defaults": {"ref": "refs/heads/main", **self.schedule},
            }
            (path / "a.yaml").write_text(yaml.dump(value))
            for first in range(0, self.repositories, 1000):
                numbers = range(first, min(first + 1000, self.repositories))
                jobs = {f"j{number}": self._job(number) for number in numbers}
                text = yaml.dump({"jobs": jobs}, Dumper=yaml.CSafeDumper)
                (path / f"jobs{first}.yaml").write_text(text)
        return load_config(path, os.environ)

    def _job(self, number: int) -> dict[str, Any]:
        paths = [{"from": "file", "to": f"{self.folder}/dest/{number}"}]
        return {"repo": f"acme/r{number}", "paths": paths}

    def begin(self) -> None:
        """The daemon has started, and nothing has run yet."""
        self.daemon = Daemon(
            lambda: self.config, os.environ, clock=self.clock, jitter=random.Random(1).random
        )
        self.daemon.prepare(self.config)
        self.daemon.job_status.subscribe(lambda report, _: self.reports.append(report))

    def run(self, seconds: float) -> None:
        """So much time has passed; what was due has run."""
        daemon, clock = self.daemon, self.clock
        ends = clock.monotonic() + seconds
        while clock.monotonic() < ends:
            wait = daemon.scheduler.tick()
            while (wanted := daemon.queue.pop()) is not None:
                daemon.runner.run(wanted)
                daemon.scheduler.tick()
                if len(self.github.requests) > 200:
                    self._collect()  # the simulator looks through what it has recorded
            daemon.heartbeat()
            due = daemon.queue.seconds_until_due()
            rest = min(wait + 0.001, ends - clock.monotonic())
            clock.advance(max(0.001, rest if due is None else min(rest, due)))
        daemon.housekeeping()

    def _collect(self) -> None:
        self.seen.update(f"{one.route} {one.status}" for one in self.github.requests)
        self.github.forget_requests()

    def forget(self) -> None:
        """Forget the requests and the reports so far."""
        self.github.forget_requests()
        self.seen.clear()
        self.reports.clear()

    def requests(self) -> dict[str, int]:
        """Route and status -> requests."""
        self._collect()
        return dict(self.seen)

    def outcomes(self) -> dict[str, int]:
        """What came of the runs, by status or error."""
        return dict(
            Counter(one.error.id if one.error else one.status.value for one in self.reports)
        )


@contextmanager
def polled_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, repositories: int, schedule: dict[str, Any]
) -> Iterator[PolledDaemon]:
    clock = FakeClock()
    under(clock, monkeypatch)
    github = GitHub(now=lambda: clock.now().timestamp())
    github.primary_limit = None
    for number in range(repositories):
        github.add_repo(f"acme/r{number}", {"file": f"{number}\n"})
    key = folder / "app.pem"
    key.write_text(app_with_known_key(github, 1))
    key.chmod(0o600)
    github.accounts.install(1, "acme", 42)
    (folder / "dest").mkdir()
    with serve(github) as served, forked_supervisors():
        made = PolledDaemon(folder, clock, github, served, repositories, schedule)
        made.begin()
        try:
            yield made
        finally:
            made.daemon.app.close()


__all__ = ["PolledDaemon", "polled_daemon"]
