"""Whether a run would find nothing to do, decided by what the last run saw.

`unchanged_state` asks the engine itself: given the known head again, it decides that nothing has to
be done. `still_unchanged` says unchanged only where `run_job` would: the same configuration, state
and head, and the same destinations. Anything else is left to a run. Nothing is written; the caller
records that the job was checked.
"""

from __future__ import annotations

import time

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext, RunState
from syncd.engine.decision import decide
from syncd.engine.directories import applied_set, wanted_directories
from syncd.engine.listing_version import with_listing_of
from syncd.engine.owners import configured_owners
from syncd.errors import SyncdError
from syncd.git_objects import is_object_id
from syncd.models import Job, LedgerRow, RunReport, RunStatus, Trigger
from syncd.policies import Publish
from syncd.ports import Head, JobState, Source
from syncd.ref_names import is_check_due
from syncd.unchanged import Seen, directories_of, is_as_seen, stat_digest

# Fields of a state that say what was, and ask for nothing. A new field keeps every job from being
# unchanged until it is listed here or has its default.
HISTORY_FIELDS = (
    "files",
    "applied_files_digest",
    "last_run_at",
    "last_success_at",
    "last_change_at",
    "accepted",
    "condition",
)


class UnchangedState(Struct, frozen=True):
    """A job that has nothing to do, and what that was decided by."""

    job: Job
    scope: str
    state: JobState
    head: Head
    seen: Seen


class KnownHeadSource(Source):
    """A Source that knows one head, unchanged. Raises SyncdError for every other question."""

    def __init__(self, head: Head, source: Source) -> None:
        self._head, self._source = head, source

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        """Return the known head as unchanged."""
        return replace(self._head, unchanged=True)

    def listing_version(self, head: Head) -> str | None:
        """Return what the source that the head is of says."""
        return self._source.listing_version(head)

    def _refuse(self, *_: object, **__: object) -> object:
        raise SyncdError("GitHub would be asked")

    listing = fetch = verification = _refuse  # type: ignore[assignment]
    commit_summary = is_descendant = fetch_lfs = _refuse  # type: ignore[assignment]
    commit_object = tag_object = history = _refuse  # type: ignore[assignment]


def applied_head(job: Job, ctx: RunContext) -> Head | None:
    """Return the head that the job's last run applied; None where something is pending."""
    state, head = ctx.store.state(job.name), ctx.store.head(ctx.scope, job.repo, job.ref)
    if head is None:
        return None
    job = with_listing_of(job, ctx.source, head)
    return head if _is_up_to_date(state, job, head) else None


def unchanged_state(job: Job, ctx: RunContext, deadline: Deadline) -> UnchangedState | None:
    """Return what the job's next runs may be compared with; None where there may be something to
    do.

    The caller holds the job's lock.
    """
    store = ctx.store
    try:
        state, head = store.state(job.name), store.head(ctx.scope, job.repo, job.ref)
        if head is None or not _may_be_unchanged(job, ctx, state, head):
            return None
        ledger = store.load_ledger(job.name)
        seen = _seen(job, ctx, ledger)
        known_head = replace(ctx, source=KnownHeadSource(head, ctx.source))
        # looks at the disk after `seen`, so that a change between them is noticed
        decision = decide(RunState(job, known_head, deadline, Options(), state))
    except (SyncdError, OSError):
        return None  # the next run meets the same error, and reports it
    same_rows = decision.recorded == ledger and decision.remote.keys() == ledger.keys()
    if decision.plan.actions or decision.limit is not None or not same_rows:
        return None
    return UnchangedState(job, ctx.scope, state, head, seen)


def _may_be_unchanged(job: Job, ctx: RunContext, state: JobState, head: Head) -> bool:
    job = with_listing_of(job, ctx.source, head)
    if job.publish is not Publish.FILES or not _is_up_to_date(state, job, head):
        return False
    return ctx.store.intent(job.name) is None


def _seen(job: Job, ctx: RunContext, ledger: dict[str, LedgerRow]) -> Seen:
    """Return how lstat(2) shows the job's destinations and syncd's directories now.

    Raises OSError.
    """
    created = wanted_directories(applied_set(ledger), ctx.store.folders(job.name))
    directories = directories_of({path: row.entry.root for path, row in ledger.items()}, created)
    return Seen(directories, stat_digest(directories), configured_owners(job, ctx.resolve_owner))


def _is_up_to_date(state: JobState, job: Job, head: Head) -> bool:
    """Return whether the set of this head and configuration was applied, and nothing is pending.

    Nor may the job be paused, failing or unfinished.
    """
    past = {name: getattr(state, name) for name in HISTORY_FIELDS}
    applied = JobState(applied_commit=head.commit, applied_config_digest=job.digest, **past)
    return state == applied and state.last_success_at is not None


def still_unchanged(
    known: UnchangedState, job: Job, ctx: RunContext, deadline: Deadline, trigger: Trigger
) -> RunReport | None:
    """Return the report of a run that found nothing to do; None where there may be something.

    One request, answered 304 while the head holds; none for a commit id, whose meaning never
    changes.
    """
    began, started_at = time.perf_counter(), ctx.clock.now()
    same_job = known.job == job and known.scope == ctx.scope
    if not same_job or not same_state(ctx.store.state(job.name), known.state):
        return None
    if is_check_due(job.ref, known.head.checked_at, started_at.timestamp()):
        return None
    if not _is_same_head(known, ctx, deadline) or not is_as_seen(known.seen):
        return None
    return RunReport(
        job.name,
        RunStatus.UNCHANGED,
        job.repo,
        job.ref,
        known.state.applied_commit,
        known.state.applied_commit,
        seconds=time.perf_counter() - began,
        trigger=trigger,
        started_at=started_at,
        files=known.state.files,
    )


def _is_same_head(known: UnchangedState, ctx: RunContext, deadline: Deadline) -> bool:
    """Return whether the ref still names the known commit.

    An error is left to a run, which reports it.
    """
    job = known.job
    commit_decides = ctx.source.listing_version(known.head) is None
    if commit_decides and job.ref is not None and is_object_id(job.ref):
        return True
    try:
        head = ctx.source.resolve(job.repo, job.ref, known.head, deadline)
    except SyncdError:
        return False
    if head.commit != known.head.commit:
        return False
    return commit_decides or head.etag == known.head.etag


def same_state(one: JobState, other: JobState) -> bool:
    """Return whether two states are equal in everything but when the job was last checked."""
    return replace(one, last_run_at=None, last_success_at=None) == replace(
        other, last_run_at=None, last_success_at=None
    )


__all__ = [
    "KnownHeadSource",
    "UnchangedState",
    "applied_head",
    "same_state",
    "still_unchanged",
    "unchanged_state",
]
