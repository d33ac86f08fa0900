"""Values of `apply:`, `reload:` and `first:`: when a job may apply new commits and reload.

Also what waits for that, and how often syncd tries a job that never succeeded.

What they mean at a moment is decided in `apply_windows.py`, `engine/reload_spacing.py` and
`daemon/backoff.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

# fields of a job that do not change what it puts on disk
TIMING = {"every_seconds", "cron", "jitter_seconds", "on_push", "apply", "reload", "first"}
HOOKS = {"validate", "on_change", "undo_on_failure", "health", "hook_user", "hook_timeout_seconds"}
OFF_DISK = TIMING | HOOKS | {"timeout_seconds", "report", "rollout", "where"}


class Window(Struct, frozen=True):
    """One item of `apply.windows`: it opens when the cron expression comes, for so long."""

    start: str
    seconds: float


class Freeze(Struct, frozen=True):
    """One item of `apply.freeze`: from `begins_at` until before `ends_at`, both in UTC."""

    begins_at: datetime
    ends_at: datetime
    reason: str = ""


class ApplyRules(Struct, frozen=True):
    """`apply:` of a job. Without a window the job may apply at any time outside the freezes."""

    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    timezone: str = "UTC"  # of the windows


class ReloadSpacing(Struct, frozen=True):
    """`reload:`: how far apart the runs of `on_change` are, and how long changes have to rest."""

    at_most_every_seconds: float = 0.0
    quiet_seconds: float = 0.0

    @property
    def is_given(self) -> bool:
        """Whether it asks for anything."""
        return self != ReloadSpacing()


class FirstRuns(Struct, frozen=True):
    """`first:`: how often, and for how long, a job is tried that never succeeded."""

    every_seconds: float
    seconds: float


class Closed(Struct, frozen=True):
    """A moment at which no new commit may be applied, and until when; None for never again."""

    until: datetime | None
    reason: str

    def describe(self) -> str:
        """Return until when, and why, in words."""
        if self.until is None:
            return f"with no window to come: {self.reason}"
        return f"until {_time_text(self.until)}: {self.reason}"


class WaitingCommit(Struct, frozen=True):
    """A commit that was seen, staged and validated, and waits to be applied.

    `until` is None where no window comes. `config_digest` is that of the configuration of the hooks
    by which the commit was judged.
    """

    commit: str
    until: datetime | None = None
    reason: str = ""
    config_digest: str = ""

    def is_same_commit(self, other: WaitingCommit) -> bool:
        """Return whether it is the same commit, judged by the same hooks."""
        return (self.commit, self.config_digest) == (other.commit, other.config_digest)

    def describe(self) -> str:
        """Return in words which commit waits, until when, and why."""
        return f"commit {self.commit[:7]} waits {Closed(self.until, self.reason).describe()}"

    def to_json(self) -> dict[str, str | None]:
        """Return the object that JSON output shows of it."""
        return {"commit": self.commit, "until": _time_text(self.until), "reason": self.reason}


def _time_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Rollout(Struct, frozen=True):
    """`rollout:`: in which waves a commit reaches the agents of a fleet.

    `shares` are parts of the agents, each greater than the one before; all follow the last.
    """

    shares: tuple[float, ...]
    pause_seconds: float = 300.0
    halt_on: tuple[str, ...] = ("validate", "hook", "health", "drift")


__all__ = [
    "OFF_DISK",
    "ApplyRules",
    "Closed",
    "FirstRuns",
    "Freeze",
    "ReloadSpacing",
    "Rollout",
    "WaitingCommit",
    "Window",
]
