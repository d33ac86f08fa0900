"""A job's state: what the store keeps of it between runs.

What belongs together is one value, which is None where there is nothing of it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.errors import SyncdError


class Rejection(Struct, frozen=True):
    """The last commit that a hook or `require` refused.

    It holds while the commit and the configuration of the hooks stay the same. `by_policy`: it was
    refused by `require`, and not by a hook.
    """

    commit: str
    config_digest: str
    reason: str = ""
    by_policy: bool = False


class AcceptedCommit(Struct, frozen=True):
    """The last accepted head of a history (a repository and a ref): the next head has to follow
    it.
    """

    commit: str
    history: str


class PendingReload(Struct, frozen=True):
    """A reload that has to run: `on_change` has not succeeded since the files were changed.

    `commit` is the commit that the reload is for; None while its set is not complete, so that
    nothing is reloaded yet. `reloaded_commit` is the commit that the last successful reload was
    for; `since` is the start of the first run whose changes need the reload. `reload:` puts it off
    until `deferred_until`.
    """

    commit: str | None = None
    reloaded_commit: str | None = None
    since: datetime | None = None
    attempts: int = 0
    tried_at: datetime | None = None
    deferred_until: datetime | None = None

    def is_put_off(self, now: datetime) -> bool:
        """Return whether `reload:` puts it off at this moment."""
        return self.deferred_until is not None and now < self.deferred_until

    @property
    def planned_at(self) -> datetime | None:
        """When it may run, where `reload:` puts it off; None for one that has failed."""
        return self.deferred_until if self.attempts == 0 else None


class UndoInfo(Struct, frozen=True):
    """What an undo of the changes needs whose reload or health check is pending.

    `blob` is the cached description of what was there before; `content_blobs` are the contents that
    the undo writes. `begun`: an undo was begun and has not been finished.
    """

    blob: str
    content_blobs: tuple[str, ...] = ()
    begun: bool = False


class CheckResult(StrEnum):
    """How a health check ended. One that could not be run says nothing of the change."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"


class PendingHealth(Struct, frozen=True):
    """A change whose health is not known yet. It is never healthy because nothing was checked.

    `config_digest` is of the hooks' configuration that judges the commit. The window is open from
    `since` on; None while the set, or its reload, is not complete. `checked_at` is when the last
    check began. `seconds` of the window were watched, `passed` checks have passed, and the last
    `failed` checks have failed, with `reason`.
    """

    commit: str
    config_digest: str
    since: datetime | None = None
    checked_at: datetime | None = None
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    last: CheckResult | None = None
    reason: str = ""


class Pause(Struct, frozen=True):
    """An operator's pause. It lasts until `until`, or until `syncd resume` where that is None."""

    reason: str
    until: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Return whether its time has passed."""
        return self.until is not None and now >= self.until

    def describe(self) -> str:
        """Return in words until when the job is paused, and why."""
        if self.until is None:
            return f"paused: {self.reason}"
        return f"paused until {self.until:%Y-%m-%dT%H:%M:%SZ}: {self.reason}"


class LastError(Struct, frozen=True):
    """The error of the last run; `kind` is the word that reports and metrics have for it, `hint`
    the remedy.
    """

    kind: str
    message: str = ""
    id: str | None = None
    hint: str | None = None


class Condition(Struct, frozen=True):
    """How a job is, and since when: one of the names that `condition_at` returns."""

    name: str
    since: datetime


class JobState(Struct, frozen=True):
    """What the store knows of a job. `applied_*` is the last accepted set."""

    applied_commit: str | None = None
    applied_config_digest: str | None = None
    # digest of that set; None for unknown: it is listed again
    applied_files_digest: str | None = None
    files: int = 0  # how many destinations the applied set has
    rejection: Rejection | None = None
    accepted: AcceptedCommit | None = None
    pending_reload: PendingReload | None = None
    pending_health: PendingHealth | None = None
    undo: UndoInfo | None = None
    pause: Pause | None = None
    held: bool = False  # a rollback holds the job until `syncd resume`
    failures: int = 0
    last_error: LastError | None = None
    consistent: bool = True  # the last run finished: the recorded files are all that there is
    drift_count: int = 0
    # directories of syncd's that do not yet have the mode and owner that the set asks
    directories_to_fix: tuple[str, ...] = ()
    last_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_change_at: datetime | None = None
    # the last state that a notification was sent for: `failed`, `drift`, or None for well
    notified_as: str | None = None
    condition: Condition | None = None  # as of the last run or command
    waiting: WaitingCommit | None = None  # not applied yet, outside the windows of `apply:`
    applying: str | None = None  # the commit whose application has begun and was not finished

    def condition_at(self, now: datetime) -> str:
        """Return how the job is: `in_sync`, `waiting`, `drift`, `failing`, `paused`, `checking` or
        `never`.
        """
        if self.paused(now):
            return "paused"
        if self.failures or self.last_error is not None:
            return "failing"
        if self.checking:
            return "checking"
        if self.last_success_at is None:
            return "never"
        if self.drift_count:
            return "drift"
        if self.reload_is_deferred:
            return "waiting"
        if self.pending_reload or self.pending_health or not self.consistent:
            return "failing"
        return "in_sync" if self.waiting is None else "waiting"

    @property
    def reload_is_deferred(self) -> bool:
        """Whether the whole set is in place, and its reload only waits for its time."""
        pending = self.pending_reload
        return pending is not None and pending.deferred_until is not None and self.consistent

    @property
    def checking(self) -> bool:
        """Whether the whole set is in place and reloaded, and its health window is open."""
        is_open = self.pending_health is not None and self.pending_health.since is not None
        return is_open and self.pending_reload is None and self.consistent

    def with_condition(self, now: datetime) -> JobState:
        """Return the state with the condition that it has now. Its time stays while it is the
        same.
        """
        name = self.condition_at(now)
        if self.condition is not None and self.condition.name == name:
            return self
        return replace(self, condition=Condition(name, now))

    def condition_since(self, now: datetime) -> datetime | None:
        """Return since when the job is as it is now; None where that is not known.

        Between two runs, a pause may have ended, and a run may have been interrupted.
        """
        if self.condition is not None and self.condition.name == self.condition_at(now):
            return self.condition.since
        if self.pause is not None and self.pause.is_over(now):
            return self.pause.until
        return self.last_run_at

    def paused(self, now: datetime) -> bool:
        """Return whether the job is left alone: held after a rollback, or paused and not yet
        over.
        """
        return self.held or (self.pause is not None and not self.pause.is_over(now))

    def with_pause(self, pause: Pause | None, now: datetime) -> JobState:
        """Return the state with this pause; with None, neither paused nor held any more."""
        held = self.held and pause is not None
        return replace(self, held=held, pause=pause).with_condition(now)

    def describe_pause(self) -> str:
        """Return in words why the job is left alone; empty when nothing keeps it from running."""
        if self.held:
            return "held after a rollback"
        return "" if self.pause is None else self.pause.describe()

    def after_failure(self, error: SyncdError) -> JobState:
        """Return the state after one more failure."""
        last_error = LastError(error.kind, error.message, error.id, error.hint)
        return replace(self, failures=self.failures + 1, last_error=last_error)

    def after_success(self, at: datetime) -> JobState:
        """Return the state after a success: no failure counts any more."""
        return replace(self, last_success_at=at, failures=0, last_error=None)


__all__ = [
    "AcceptedCommit",
    "CheckResult",
    "Condition",
    "JobState",
    "LastError",
    "Pause",
    "PendingHealth",
    "PendingReload",
    "Rejection",
    "UndoInfo",
]
