"""Protocols of the web listener: what it needs from the process that runs the jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syncd.github.webhook import Push, PushOutcome
from syncd.recent_runs import RecentRun, RunHistory
from syncd.status import StatusSnapshot
from syncd.status.fleet import FleetLook
from syncd.store.actions import Person


class PushReceiver(Protocol):
    """Receives what the webhook gets. Safe to use from many threads; every method returns at
    once.
    """

    def push_received(self, push: Push, delivery_key: str | None, what: str) -> PushOutcome | None:
        """Start the jobs that follow a push, and return how many there are, and how many are
        paused.

        Returns None if a delivery with this key came before; without a key none has. `what`
        describes the push.
        """

    def ignored(self, what: str) -> None:
        """Count a signed delivery that starts nothing."""

    def rejected(self, why: str | None) -> None:
        """Count a refused delivery. `why` is None when it was probably not GitHub's."""


class JobControl(Protocol):
    """Acts on jobs for a person. Safe to use from many threads.

    Every method but `has` raises StoreError.
    """

    def has(self, job: str) -> bool:
        """Return whether the job is configured."""

    def sync_now(self, job: str, by: Person) -> str | None:
        """Queue a run; return why none is queued, None if one is."""

    def pause(self, job: str, by: Person, reason: str, seconds: float | None) -> None:
        """Pause the job, for so many seconds or until it is resumed."""

    def resume(self, job: str, by: Person) -> str | None:
        """Let a paused job go on; return why not, None if it does."""


class FleetWatch(Protocol):
    """What is known of the fleet. Safe to use from many threads; nothing waits for long."""

    @property
    def has_overview(self) -> bool:
        """Return whether this machine may read the whole fleet: a controller may."""
        ...

    def look(self) -> FleetLook:
        """Return how the fleet is. Raises StoreError."""


class StatusSource(Protocol):
    """Source of everything that the pages show. Safe to use from many threads."""

    @property
    def push_trigger(self) -> PushReceiver:
        """Return the receiver of webhook deliveries."""
        ...

    def status_snapshot(self) -> StatusSnapshot:
        """Return the status of every job now. Raises StoreError."""

    def stall_reason(self) -> str | None:
        """Return what makes no progress; None if all is well."""

    def recent_runs(self, show_diffs: bool) -> Sequence[RecentRun]:
        """Return what the last runs changed, the newest first. Raises StoreError."""

    @property
    def job_control(self) -> JobControl:
        """Return what acts on jobs."""
        ...

    @property
    def fleet_watch(self) -> FleetWatch | None:
        """Return what looks at the fleet; None on a machine without one."""
        ...

    @property
    def run_history(self) -> RunHistory:
        """Return the reader of past runs."""
        ...
