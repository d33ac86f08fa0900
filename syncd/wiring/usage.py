"""Save to the store what GitHub said of rate limits and token ends, and how many requests each
repository cost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from syncd.clock import Clock
from syncd.github.rate_limit import SavedRateLimit
from syncd.store.facts import (
    REPOSITORY_MOVED,
    Facts,
    LimitKey,
    LimitRow,
    Staleness,
    Usage,
    usage_hour_end,
)
from syncd.wiring.connections import Connections


class UsageRecorder:
    """Saves only what has changed since the last save."""

    def __init__(self, connections: Connections, facts: Facts, clock: Clock) -> None:
        self._connections, self._facts, self._clock = connections, facts, clock
        self._saved: dict[LimitKey, SavedRateLimit] = {}
        self._counted: dict[LimitKey, dict[str, int]] = {}
        self._moved: dict[str, int] = {}
        self._found: frozenset[str] = frozenset()

    def observed_limits(self) -> tuple[SavedRateLimit, ...]:
        """Return the limits that this process has learned from GitHub, by identity, then by
        installation.
        """
        return tuple(
            one
            for name, limits in list(self._connections.rate_limits.items())
            for one in limits.snapshot(name)
        )

    def token_expiries(self) -> dict[str, datetime | None]:
        """Return when each identity's token ends, as GitHub said last: to this process or an
        earlier one.
        """
        return self._facts.token_expiries() | self._connections.request_metrics.token_expiries()

    def save(self, identities: Collection[str]) -> None:
        """Save limits, usage and the token ends of the configured identities. Raises StoreError."""
        limits = {(one.identity, one.installation): one for one in self.observed_limits()}
        rows = [
            LimitRow(*key, one.account, one.view.limit, one.view.remaining, one.view.reset_at)
            for key, one in limits.items()
            if self._saved.get(key) != one
        ]
        counted = self._connections.request_metrics.charged_requests()
        self._facts.save_github(rows, self._usage_since_save(counted), self._expiries(identities))
        self._saved |= limits
        self._counted = counted

    def save_moved_repositories(self) -> None:
        """Save which repositories have another name now. Raises StoreError.

        One that an earlier process found moved stays so until its name leads to it again.
        """
        metrics = self._connections.request_metrics
        moved = {f"{one}/{repo}": n for (one, repo), n in metrics.renamed_repositories().items()}
        found = frozenset(f"{one}/{repo}" for one, repo in metrics.found_by_name())
        if (moved, found) == (self._moved, self._found):
            return
        known = {
            one.subject: one for one in self._facts.staleness() if one.reason == REPOSITORY_MOVED
        }
        now = {
            name: Staleness(REPOSITORY_MOVED, name, str(number), self._clock.now())
            for name, number in moved.items()
        }
        kept = {name: one for name, one in known.items() if name not in found}
        after = now | kept
        if after != known:
            self._facts.save_staleness(REPOSITORY_MOVED, after.values())
        self._moved, self._found = moved, found

    def _expiries(self, identities: Collection[str]) -> dict[str, datetime] | None:
        """Return the ends to save; None when the store has them already."""
        known = self._facts.token_expiries()
        seen = known | self._connections.request_metrics.token_expiries()
        now = {name: at for name, at in seen.items() if at is not None and name in identities}
        return None if now == known else now

    def _usage_since_save(self, counted: Mapping[LimitKey, Mapping[str, int]]) -> Iterator[Usage]:
        for key, by_repo in counted.items():
            before = self._counted.get(key, {})
            added = {
                repo: count - before.get(repo, 0)
                for repo, count in by_repo.items()
                if count > before.get(repo, 0)
            }
            if not added:
                continue
            name, installation = key
            limits = self._connections.rate_limits.get(name)
            reset_at = limits.get(installation).status().reset_at if limits is not None else None
            yield Usage(key, usage_hour_end(self._clock.now(), reset_at), added)


__all__ = ["UsageRecorder"]
