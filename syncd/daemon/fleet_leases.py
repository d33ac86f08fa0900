"""The leases that a controller holds, by its own clock.

The database decides who may publish. This is for the time in which a controller does not hear from
it: a controller that was frozen or cut off stops asking GitHub when its lease may have ended, so
that one controller at a time polls a job.
"""

from __future__ import annotations

import threading

from syncd.clock import Clock
from syncd.errors import StoppedError
from syncd.fleet.leases import Lease


class HeldLeases:
    """Leases, each with the time until which it lasts at least. Safe to use from many threads.

    `asked_at` is the monotonic time before the database was asked: it counts from a later one.
    """

    def __init__(self, clock: Clock, ttl_seconds: float) -> None:
        self._clock, self._ttl_seconds = clock, ttl_seconds
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Lease, float]] = {}

    def add(self, lease: Lease, asked_at: float) -> None:
        """Hold a lease that was claimed."""
        with self._lock:
            self._held[lease.job] = (lease, asked_at + self._ttl_seconds)

    def renewed(self, lease: Lease, asked_at: float) -> None:
        """Note that the database renewed a lease; it may have been given back meanwhile."""
        with self._lock:
            if self._is_held(lease):
                self._held[lease.job] = (lease, asked_at + self._ttl_seconds)

    def lost(self, lease: Lease) -> None:
        """Note that another controller has the job: its poll here ends at its next check."""
        with self._lock:
            if self._is_held(lease):
                self._held[lease.job] = (lease, self._clock.monotonic())

    def remove(self, lease: Lease) -> None:
        """Hold the lease no longer. Another claim of the job stays."""
        with self._lock:
            if self._is_held(lease):
                del self._held[lease.job]

    def _is_held(self, lease: Lease) -> bool:
        return lease.job in self._held and self._held[lease.job][0].epoch == lease.epoch

    def has(self, job: str) -> bool:
        """Return whether a poll of the job has not ended, even where its lease has."""
        with self._lock:
            return job in self._held

    def all(self) -> list[Lease]:
        """Return every lease."""
        with self._lock:
            return [lease for lease, _ in self._held.values()]

    def check(self, lease: Lease) -> None:
        """Raise StoppedError where the lease may have ended."""
        with self._lock:
            ends_at = self._held[lease.job][1] if self._is_held(lease) else 0.0
        if self._clock.monotonic() >= ends_at:
            raise StoppedError(
                f"{lease.job}: the lease was not renewed in time, so another controller may poll "
                "the job by now; this poll ends"
            )


__all__ = ["HeldLeases"]
