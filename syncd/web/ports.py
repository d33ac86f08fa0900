"""What the listener asks of whoever runs the jobs, whenever somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syncd.github.webhook import Push
from syncd.recent_runs import RecentRun
from syncd.status import StatusSnapshot


class PushReceiver(Protocol):
    """What the webhook tells. Safe to use from many threads, and returns at once."""

    def push_received(self, push: Push, delivery_key: str | None, what: str) -> int | None:
        """So many jobs ask GitHub soon; None where the delivery that bears this mark has rung
        before.

        Without a mark none has. `what` is it in words.
        """

    def ignored(self, what: str) -> None:
        """A signed delivery from which nothing follows."""

    def rejected(self, why: str | None) -> None:
        """A delivery was refused. `why` is None where it was hardly GitHub's."""


class StatusSource(Protocol):
    """Safe to use from many threads."""

    @property
    def push_trigger(self) -> PushReceiver: ...

    def status_snapshot(self) -> StatusSnapshot:
        """How everything stands now. Raises StoreError."""

    def stall_reason(self) -> str | None:
        """What does not move that should, in words; None when all is well."""

    def recent_runs(self, show_diffs: bool) -> Sequence[RecentRun]:
        """What the last runs changed, the newest first. Raises StoreError."""
