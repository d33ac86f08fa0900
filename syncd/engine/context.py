"""What a run works with: its collaborators, what its caller asks for, and the job's state.

Values only. What is done with them is in `run.py` and the modules that it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from msgspec import Struct

from syncd.apply_rules import Closed
from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.owners import ResolveOwner
from syncd.models import Job, Trigger
from syncd.ports import (
    AppliedSet,
    Blobs,
    Hooks,
    JobState,
    Mirror,
    ReloadTurns,
    Signers,
    Source,
    Store,
)
from syncd.protected_paths import ProtectedPaths


class RunContext(Struct, frozen=True):
    """The collaborators of a run.

    `scope` names (host, identity): heads are stored under it. `jobs` are the names of all
    configured jobs.
    """

    source: Source
    store: Store
    mirror: Mirror
    blobs: Blobs
    clock: Clock
    resolve_owner: ResolveOwner
    scope: str
    jobs: frozenset[str]
    hooks: Hooks | None = None
    others: OtherJobs | None = None  # what the other jobs list; None: each lists all that it has
    renamed_from: str | None = None  # the removed job that this one is under a new name
    protected: ProtectedPaths = ProtectedPaths()
    signers: Signers | None = None
    reload_turns: ReloadTurns | None = None  # None: every reload runs at once


class Options(Struct, frozen=True):
    """What the caller asks of one run only.

    `rollback_set`: apply this set, whatever the repository has, and hold the job after it.
    `pushed`: the spellings (`heads/v1`) of refs that were pushed since the last run. `now`: apply a
    new commit also outside the windows of `apply:`.
    """

    trigger: Trigger = Trigger.OPERATOR
    ref: str | None = None
    allow_delete: int | None = None
    rollback_set: AppliedSet | None = None
    pushed: frozenset[str] = frozenset()
    now: bool = False


@dataclass
class RunState:
    """Everything that the steps of one run need.

    `state` is the job's state as the run knows it now.
    """

    job: Job
    ctx: RunContext
    deadline: Deadline
    options: Options
    state: JobState

    @property
    def is_rollback(self) -> bool:
        """Whether the run applies an earlier set and not the repository's."""
        return self.options.rollback_set is not None

    @property
    def ref(self) -> str | None:
        """The ref that the run follows: the caller's, or the job's."""
        return self.options.ref or self.job.ref

    @cached_property
    def closed(self) -> Closed | None:
        """Until when `apply:` lets no new commit through; None where it does.

        Decided once: a window that ends meanwhile does not stop the run.
        """
        rules = self.job.apply
        if not rules.windows and not rules.freezes:
            return None
        from syncd.apply_windows import closed_at  # loads the library of cron expressions

        return closed_at(rules, self.ctx.clock.now())

    def is_begun(self, commit: str) -> bool:
        """Return whether the commit was applied, or its application has begun: it is not new."""
        return commit in (self.state.applied_commit, self.state.applying)


__all__ = ["Options", "RunContext", "RunState"]
