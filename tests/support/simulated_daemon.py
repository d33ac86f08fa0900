"""A daemon whose days pass in seconds: the product's own clock, queue and work under a clock of
ours, over the simulator in memory.

One thread turns all wheels, so every run of it is the same: what is due is asked for, what is ready
is run, then time jumps to whatever comes next. Only threads are left out; they have tests of their
own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from syncd.config.load import load_config
from syncd.config.model import Config
from syncd.daemon import housekeeping
from syncd.daemon.daemon import Daemon
from syncd.daemon.queue import Request as Wanted
from syncd.deadline import Deadline
from syncd.errors import RemoteUnavailableError, UnreachableError
from syncd.github.auth.credentials import AuthTransport, StaticToken
from syncd.github.protocol import BufferedResponse, Request, Response
from syncd.github.retry import RetryingTransport
from syncd.identities import Identity
from syncd.models import RunReport
from syncd.redaction import Secret
from syncd.simulator.github import GitHub
from syncd.store.store import SqliteStore
from syncd.wiring import AppContext, ConnectionOptions, IdentityConnection, app_context
from tests.support.clock import FakeClock
from tests.support.fork_server import forked_supervisors
from tests.support.scheduler import under
from tests.support.simulator_process import SimulatorProcess

TOKEN = "ghp_" + "s" * 36
GUARD_SECONDS = 300.0


class MemoryNetwork:
    """The network in memory.

    `away` takes it away; every exchange that was answered is counted as the product's own would be.
    """

    def __init__(self, github: GitHub | SimulatorProcess) -> None:
        self.github, self.away = github, False

    def send(self, request: Request, deadline: Deadline) -> Response:
        deadline.check()
        if self.away:
            raise UnreachableError(
                f"the request for {request.subject} failed: api.test can't be reached: no route "
                "to host"
            )
        url = request.url
        for _ in range(5):
            parts = urlsplit(url)
            headers = {
                name: value
                for name, value in request.headers.items()
                if name != "Authorization" or parts.netloc == "api.test"
            }
            answer = self.github.handle(
                request.method,
                parts.path + (f"?{parts.query}" if parts.query else ""),
                headers,
                request.body or b"",
                "https://api.test",
            )
            deadline.request_count += 1
            if answer.status == 0 or answer.hang_seconds:
                raise RemoteUnavailableError(
                    f"the request for {request.subject} failed: the connection was lost"
                )
            if answer.status not in (301, 302, 307):
                break
            url = answer.headers["location"]
        if answer.end != "keep" or answer.declared_length not in (None, len(answer.body)):
            raise RemoteUnavailableError(f"the answer for {request.subject} ended early")
        return BufferedResponse(answer.status, answer.headers, url, answer.body)


class MemoryAppContext(AppContext):
    """Everything real but the network."""

    air: MemoryNetwork

    def connection(self, identity: Identity) -> IdentityConnection:
        if identity.name not in self.connections._connections:
            rate_limits = self.connections.limits_of(identity)
            credentials = StaticToken(Secret(TOKEN))
            plain = RetryingTransport(self.air, self.clock, False)
            transport = AuthTransport(plain, credentials, self.clock)
            self.connections.add(
                identity, IdentityConnection(transport, plain, credentials, rate_limits)
            )
        return self.connections.get(identity)


@dataclass
class SimulatedDaemon:
    """`reports` are (monotonic seconds, report), as runs ended; `run` lets time pass.

    `apart`, where it is given, answers instead of `github`.
    """

    folder: Path
    clock: FakeClock
    github: GitHub
    apart: SimulatorProcess | None = None
    jobs: dict[str, Any] = field(default_factory=dict)
    reports: list[tuple[float, RunReport]] = field(default_factory=list)
    guard_seconds: float = GUARD_SECONDS
    web: dict[str, Any] | None = None
    timezone: str = "UTC"

    @property
    def config(self) -> Config:
        value: dict[str, Any] = {
            "version": "1",
            "state": str(self.folder / "state"),
            "github": {
                "ops": {"token": {"file": str(self.folder / "token")}, "api": "https://api.test"}
            },
            "timezone": self.timezone,
            "jobs": self.jobs,
        }
        if self.web is not None:
            value["web"] = self.web
        (self.folder / "config.yaml").write_text(yaml.safe_dump(value))
        return load_config(self.folder / "config.yaml", os.environ)

    def add(self, name: str, repo: str, every: str = "1h", **more: Any) -> None:
        self.jobs[name] = {
            "repo": repo,
            "ref": "main",
            "every": every,
            "paths": [{"from": "files/", "to": f"{self.folder}/dest/{name}/"}],
            **more,
        }

    def begin(self, share: Callable[[], float]) -> None:
        """The daemon has started, and nothing has run yet."""
        self.air = MemoryNetwork(self.apart or self.github)

        def opened(config: Config) -> AppContext:
            app = MemoryAppContext(
                config,
                os.environ,
                SqliteStore.open(config.state),
                self.clock,
                ConnectionOptions(wait_for_limits=False),
            )
            app.air = self.air
            return app

        self.daemon = Daemon(
            lambda: self.config, os.environ, clock=self.clock, jitter=share, open_app=opened
        )
        self.daemon.prepare(self.config)
        self.daemon.job_status.subscribe(
            lambda report, _: self.reports.append((self.clock.monotonic(), report))
        )
        self._guarded_at = self.clock.monotonic()

    def run(
        self,
        seconds: float,
        work: Callable[[Wanted], None] | None = None,
        at_each: Callable[[], None] = lambda: None,
    ) -> None:
        """So much time has passed.

        `work` stands in for the product's own; `at_each` is called before each tick.
        """
        daemon, clock, ends = self.daemon, self.clock, self.clock.monotonic() + seconds
        work = work or daemon.runner.run
        while clock.monotonic() < ends:
            at_each()
            wait = daemon.scheduler.tick()
            while (wanted := daemon.queue.pop()) is not None:
                work(wanted)
            daemon.heartbeat()
            if clock.monotonic() - self._guarded_at >= self.guard_seconds:
                self._guarded_at = clock.monotonic()
                daemon.watchdog_ping()
                daemon.housekeeping()
            due = daemon.queue.seconds_until_due()
            clock.advance(
                max(
                    0.001,
                    min(
                        wait + 0.001,
                        due if due is not None else wait + 0.001,
                        ends - clock.monotonic(),
                    ),
                )
            )

    def settled(self) -> dict[str, str | None]:
        """Job -> the error of its last run."""
        last = {
            report.job: report.error.message if report.error else None for _, report in self.reports
        }
        return {name: last.get(name, "never ran") for name in self.jobs}


@contextmanager
def simulated_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, apart: bool = False
) -> Iterator[SimulatedDaemon]:
    """`apart`: the simulator lives in a process of its own."""
    clock = FakeClock()
    under(clock, monkeypatch)
    monkeypatch.setattr(app_context, "PROTECTED_PATHS_TTL_SECONDS", 86400.0)  # nothing moves there
    if not apart:  # else the memory of this process is what the test asks for
        monkeypatch.setattr(housekeeping, "trim_heap", lambda: None)
    github = GitHub(now=lambda: clock.now().timestamp())
    github.accounts.add_personal_token(TOKEN)
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    made = SimulatedDaemon(
        folder, clock, github, SimulatorProcess(lambda: clock.now().timestamp()) if apart else None
    )
    try:
        if made.apart is not None:
            made.apart.allow(TOKEN)
        with forked_supervisors():
            yield made
    finally:
        if made.apart is not None:
            made.apart.close()
        made.daemon.app.close()


__all__ = ["SimulatedDaemon", "simulated_daemon"]
