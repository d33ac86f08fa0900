"""What a test sees of a fleet from outside, and where it stops a controller.

A controller is stopped at a named point of its work: in a request to GitHub, where the simulator
does not answer it, or in a statement of a transaction, where a trigger keeps the server from
answering (fleet_watch.sql). The product's code is the product's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from syncd.simulator.faults import Answer
from tests.support.sync_env import WatchedGitHub

# What a path has of each question to GitHub.
REQUESTS = {
    "head": "/commits/heads/",
    "listing": "/contents/nginx?",
    "contents": "/contents/nginx/",
}
STATEMENTS = (
    "claim",
    "claim commits",
    "blob",
    "guard",
    "revision",
    "manifest",
    "publish commits",
    "release",
    "release commits",
    "renewal",
)
ANY_TIME = "any time"
POINTS = (*REQUESTS, *STATEMENTS, ANY_TIME)
POLL_SECONDS = 0.02
AHEAD = "ALTER ROLE c1 IN DATABASE {} SET search_path = watch, pg_catalog"


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait until something is true; return it."""
    ends_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends_at, f"after {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)
    return found


@dataclass
class Request:
    """A request of a controller for a repository, as it arrives."""

    at: float
    controller: str
    repo: str
    target: str


class ObservedGitHub(WatchedGitHub):
    """A simulator that knows which controller asks, by its port, and lets it wait at a point."""

    def __init__(self, canary: Any) -> None:
        super().__init__(canary)
        self.controllers: dict[str, str] = {}  # the origin of a server -> whose it is
        self.log: list[Request] = []
        self._guard_point, self._open = threading.Lock(), threading.Event()
        self._point: str | None = None
        self.stopped: str | None = None  # the controller that waits
        self._open.set()

    def stop_at(self, point: str) -> None:
        """Let the next controller that sends this request wait for its answer."""
        with self._guard_point:
            self._point, self.stopped = REQUESTS[point], None
            self._open.clear()

    def go_on(self) -> None:
        """Answer."""
        with self._guard_point:
            self._point = None
            self._open.set()

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "",
    ) -> Answer:
        """Answer one request, when its controller may go on."""
        controller = self.controllers.get(origin)
        if controller is not None and target.startswith("/repos/"):
            repo = "/".join(target.split("/")[2:4])
            self.log.append(Request(time.time(), controller, repo, target))
            if self._is_stopped(controller, target):
                self._open.wait(60)
        return super().handle(method, target, headers, body, origin)

    def _is_stopped(self, controller: str, target: str) -> bool:
        with self._guard_point:
            if self._point is None or self._point not in target:
                return False
            self.stopped = self.stopped or controller
            return self.stopped == controller


@dataclass
class Watch:
    """The database as its superuser sees it, and the simulator."""

    address: str
    github: ObservedGitHub
    notices: list[tuple[str, int]] = field(default_factory=list)  # (job, its revisions by then)

    def __post_init__(self) -> None:
        self._connection = psycopg.connect(self.address, autocommit=True)
        self._connection.execute(Path(__file__).with_suffix(".sql").read_text())
        self._connection.execute(AHEAD.format(self._connection.info.dbname))
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listening = threading.Event()
        self._listener.start()
        assert self._listening.wait(60)

    def close(self) -> None:
        self._stop.set()
        self._listener.join()
        self._connection.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    # --- points -----------------------------------------------------------------------------------

    def stop_at(self, point: str) -> None:
        """Stop the next controller that gets to a point. A renewal needs a poll that lasts."""
        if point in REQUESTS or point == "renewal":
            self.github.stop_at("contents" if point == "renewal" else point)
        if point in STATEMENTS:
            self.rows("SELECT pg_advisory_lock(1)")
            self.rows("INSERT INTO watch.point VALUES (%s) RETURNING name", point)

    def stopped(self, point: str) -> str | None:
        """Return the controller that was first to get to the point."""
        return self.github.stopped if point in REQUESTS else self._stopped_in_a_statement()

    def _stopped_in_a_statement(self) -> str | None:
        found = self.rows(
            "SELECT replace(application_name, 'syncd ', '') FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'advisory' ORDER BY query_start"
        )
        return str(found[0][0]) if found else None

    def go_on(self, point: str) -> None:
        """Let everything that waits at the point go on."""
        if point in STATEMENTS:
            self.rows("DELETE FROM watch.point RETURNING name")
            self.rows("SELECT pg_advisory_unlock(1)")
        self.github.go_on()

    # --- what is there ----------------------------------------------------------------------------

    def jobs_of(self, controller: str) -> list[str]:
        """Return the jobs whose last lease is this controller's."""
        return [
            name
            for (name,) in self.rows("SELECT name FROM syncd.job WHERE worker = %s", controller)
        ]

    def published(self) -> dict[str, str]:
        """Return job -> commit of its last revision."""
        query = "SELECT job, commit_sha FROM watch.revision ORDER BY id"
        return dict(self.rows(query))

    def forget_grants(self, revisions: int, grants: int) -> None:
        """Forget the notices of grants, which follow those of the revisions so far."""
        until(lambda: len(self.notices) == revisions + grants, "the notices of grants arrive")
        del self.notices[-grants:]

    def _listen(self) -> None:
        """Note how many revisions of a job can be read when each notice arrives."""
        count = "SELECT count(*) FROM watch.revision WHERE job = %s"
        with (
            psycopg.connect(self.address, autocommit=True) as heard,
            psycopg.connect(self.address, autocommit=True) as reader,
        ):
            heard.execute("LISTEN syncd")
            self._listening.set()
            while not self._stop.is_set():
                for notice in heard.notifies(timeout=0.2):
                    found = reader.execute(count, (notice.payload,)).fetchone()
                    self.notices.append((notice.payload, found[0] if found else 0))


__all__ = ["ANY_TIME", "POINTS", "REQUESTS", "STATEMENTS", "ObservedGitHub", "Watch", "until"]
