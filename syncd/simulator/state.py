"""What the simulated GitHub holds: accounts, repositories, switches and a clock.

Responses are made elsewhere.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from syncd.simulator.accounts import Accounts, ApiError
from syncd.simulator.oauth import OAuthServer
from syncd.simulator.repository import Repository

WRITE_LIMIT_TEXT = (
    "You have exceeded a secondary rate limit and have been temporarily blocked from content "
    "creation. Please retry your request again later."
)
# What GitHub says of an answer of the webhook; 0: no connection was opened.
DELIVERY_STATUSES = {0: "failed to connect to host", 200: "OK", 202: "OK"}


class SimDelivery(Struct, frozen=True):
    """One delivery of an App's webhook, and what came of it. `at` is in epoch seconds."""

    id: int
    guid: str
    app_id: int
    repository_id: int
    installation_id: int | None
    at: float
    status_code: int = 200
    status: str = "OK"
    event: str = "push"


class SimulatorState:
    """The state of the simulator. Its public attributes are its switches."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.accounts = Accounts()
        self.oauth = OAuthServer(self.accounts)
        self.api_versions: tuple[str, ...] | None = None  # an older server knows only these
        self.repos: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.etags = "git"  # git | hash | none
        self.plain_json = False  # a server that knows no media types but JSON
        self.tree_limit = 100_000
        self.primary_limit: int | None = 5000
        self.limit_headers = True
        self.secondary_points: int | None = None  # of REST, in a minute
        self.graphql_points: int | None = 2000  # of GraphQL, in a minute
        self.write_limits = ((60.0, 80), (3600.0, 500))  # seconds -> requests that create content
        self.writes: dict[str, list[float]] = {}  # by rate limit: the times of such requests
        self.too_large_403 = False
        self.clock_offset = 0.0
        self.codeload_origin: str | None = None
        self.lfs_ranges = True  # whether the storage of LFS continues a download
        self.deliveries: list[SimDelivery] = []  # of the webhooks of Apps, the oldest first
        self._real_now = now

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return self._real_now() + self.clock_offset

    def count_write(self, key: str) -> None:
        """Count a request that creates content. Raises ApiError past a limit.

        Source: docs "Rate limits for the REST API", secondary limits.
        """
        now, times = self.now(), self.writes.setdefault(key, [])
        for seconds, most in self.write_limits:
            if sum(at > now - seconds for at in times) >= most:
                raise ApiError(403, WRITE_LIMIT_TEXT, {"retry-after": "60"})
        times.append(now)

    def add_delivery(
        self, app_id: int, repo: Repository, status_code: int = 200, guid: str | None = None
    ) -> SimDelivery:
        """Add a push to the list of an App's deliveries, as if the webhook had answered so."""
        number = 17_000_000_000 + len(self.deliveries)
        installations = self.accounts.installations.values()
        covering = (one.id for one in installations if one.app.id == app_id and one.covers(repo))
        made = SimDelivery(
            number,
            guid or str(uuid.UUID(int=number)),
            app_id,
            repo.id,
            next(covering, None),
            self.now(),
            status_code,
            DELIVERY_STATUSES.get(status_code, "Invalid HTTP Response: " + str(status_code)),
        )
        self.deliveries.append(made)
        return made

    def add_repo(
        self,
        full_name: str,
        files: Mapping[str, Any] | None = None,
        private: bool = True,
        default_branch: str = "main",
    ) -> Repository:
        """Add a repository and return it; with `files`, they are its first commit."""
        repo = Repository(full_name, 1000 + len(self.repos), private, default_branch)
        self.repos[full_name.lower()] = repo
        if files is not None:
            repo.commit(files, "first")
        return repo

    def rename(self, old: str, new: str) -> None:
        """Rename a repository; requests for the old name are redirected from then on."""
        repo = self.repos.pop(old.lower())
        repo.full_name = new
        self.repos[new.lower()] = repo
        self.renamed[old.lower()] = new.lower()
        self.renamed.pop(new.lower(), None)

    def find_renamed(self, full_name: str) -> Repository:
        """Return the repository that a former name leads to now."""
        while full_name in self.renamed:
            full_name = self.renamed[full_name]
        return self.repos[full_name]

    def repo_by_id(self, number: str) -> Repository | None:
        """Return the repository with this number, or None."""
        return next((repo for repo in self.repos.values() if str(repo.id) == number), None)
