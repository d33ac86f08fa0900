"""Find out which commit a run is about, and which files that commit asks for.

Resolves the ref once, so that every later read of the run names one commit. Nothing is looked at
on disk and nothing is decided about files here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.deadline import Deadline
from syncd.engine import rejection
from syncd.engine.commit_contents import CommitContents
from syncd.engine.commit_policy import check_required
from syncd.engine.context import Options, RunContext, RunState
from syncd.engine.desired import desired, max_listed, set_digest, set_limit_error
from syncd.engine.directories import applied_set
from syncd.engine.lfs import with_contents
from syncd.engine.listing_version import with_listing_of
from syncd.engine.owners import has_unnamed_owner, with_current_ids
from syncd.engine.signature_policy import signed_tree, signers_digest
from syncd.errors import HookFailedError, LimitError, UntrustedError
from syncd.models import Job, LedgerRow, Ownership, WantedFile
from syncd.policies import Lfs
from syncd.ports import Head, Store
from syncd.progress import Step

Refusal = HookFailedError | UntrustedError


class WantedSet(Struct, frozen=True):
    """A commit, the files that it asks for, and the ledger rows that they are compared with.

    `config_digest` is that of the configuration that the set follows. With a `refusal` the head is
    a commit that was rejected, and this is the last accepted set. With a `limit` the set is past
    one of the job's limits, and may only be shown. With `waiting` the head is a commit that may not
    be applied yet, and this is the set that stays. `overrode` is a commit that would have to wait,
    but for `--now`.
    """

    commit: str
    remote: Mapping[str, WantedFile]
    recorded: Mapping[str, LedgerRow]
    config_digest: str | None
    refusal: Refusal | None = None
    limit: LimitError | None = None
    waiting: WaitingCommit | None = None
    overrode: WaitingCommit | None = None

    @property
    def only_waits(self) -> bool:
        """Whether the commit that waits is the job's first: no set is there that stays."""
        return self.waiting is not None and self.waiting.commit == self.commit


class Ledger(Protocol):
    """Gives a job's ledger rows. Reading may begin before they are asked for."""

    def recorded(self) -> dict[str, LedgerRow]:
        """Return destination -> ledger row."""


class StoredLedger:
    """A job's ledger, read when it is asked for."""

    def __init__(self, store: Store, job: str) -> None:
        self._store, self._job = store, job

    def recorded(self) -> dict[str, LedgerRow]:
        """Return destination -> ledger row. Raises what the store raises."""
        return self._store.load_ledger(self._job)


def wanted_set(job: Job, ctx: RunContext, deadline: Deadline) -> Mapping[str, WantedFile]:
    """Return the files that the job wants now: its repository's, or after a rejection the last
    accepted ones.

    Raises LimitError when they are past the job's limits.
    """
    run = RunState(job, ctx, deadline, Options(), ctx.store.state(job.name))
    found = resolve_wanted(run, StoredLedger(ctx.store, job.name), known_head(run))
    if found.limit is not None:
        raise found.limit
    return found.remote


def known_head(run: RunState) -> Head | None:
    """Return the stored head of the ref that the run follows. A rollback follows none."""
    if run.is_rollback:
        return None
    return run.ctx.store.head(run.ctx.scope, run.job.repo, run.ref)


def resolve_wanted(run: RunState, ledger: Ledger, known: Head | None) -> WantedSet:
    """Return the commit that the run is about, and the files that it asks for.

    Raises the refusal of a rejected commit when no earlier set was accepted.
    """
    if run.options.rollback_set is not None:
        rollback = run.options.rollback_set
        remote = with_current_ids(rollback.files, run.ctx.resolve_owner)
        return WantedSet(rollback.commit, remote, ledger.recorded(), rollback.digest)
    head = _resolve_head(run, known)
    run.job = with_listing_of(run.job, run.ctx.source, head)
    try:
        return _wanted_at(run, head, ledger)
    finally:
        # Not before: the store is reading the ledger, and the listing would wait for that.
        _save_head(run, known, head)


def _wanted_at(run: RunState, head: Head, ledger: Ledger) -> WantedSet:
    """Return the files that the job wants at this head."""
    refusal = _earlier_refusal(run, head.commit)
    if refusal is not None:
        return _last_accepted(run, head, ledger, refusal)
    waiting = _waiting_commit(run, head.commit)
    if waiting is not None and not run.options.now:
        return _while_waiting(run, head, waiting, ledger)
    check_required(run, head.commit)
    applied = _from_ledger(run, head, ledger)
    if applied:
        return WantedSet(head.commit, applied, ledger.recorded(), run.job.digest)
    return replace(_from_listing(run, head, ledger, signed_tree(run, head)), overrode=waiting)


def _waiting_commit(run: RunState, commit: str) -> WaitingCommit | None:
    """Return the commit with the time for which `apply:` keeps it; None for one that it lets
    through.
    """
    if run.is_begun(commit) or run.closed is None:
        return None
    digest = rejection.hook_config_digest(run.job)
    return WaitingCommit(commit, run.closed.until, run.closed.reason, digest)


def _while_waiting(run: RunState, head: Head, waiting: WaitingCommit, ledger: Ledger) -> WantedSet:
    """Return the set that stays until the commit may be applied: what is applied now.

    A set whose application has begun is listed, so that it is finished: the files of two commits
    never stay side by side for the time of a freeze. Else the ledger is enough, and a changed
    configuration waits as well.
    """
    state = run.state
    commit = state.applying or state.applied_commit
    if commit is None:
        return WantedSet(waiting.commit, {}, ledger.recorded(), None, waiting=waiting)
    applied = _applied_set(run, ledger) if state.applying is None else None
    if applied is None:
        begun = replace(head, commit=commit)
        return replace(_from_listing(run, begun, ledger, signed_tree(run, begun)), waiting=waiting)
    digest = state.applied_config_digest
    return WantedSet(commit, applied, ledger.recorded(), digest, waiting=waiting)


def _resolve_head(run: RunState, known: Head | None) -> Head:
    """Ask for the head of the ref.

    A push of another ref of that name makes the known one doubtful.
    """
    doubtful = (
        known is not None and known.form is not None and bool(run.options.pushed - {known.form})
    )
    asked = replace(known, checked_at=None) if known is not None and doubtful else known
    return run.ctx.source.resolve(run.job.repo, run.ref, asked, run.deadline)


def _save_head(run: RunState, known: Head | None, head: Head) -> None:
    """Store the head, also of a commit that can't be listed: the next run asks with its ETag."""
    found = replace(head, unchanged=False)
    if found != known:
        run.ctx.store.save_head(run.ctx.scope, run.job.repo, run.ref, found)


def _earlier_refusal(run: RunState, commit: str) -> Refusal | None:
    """Return why the commit was rejected before.

    A commit that the operator names is judged again by `require`.
    """
    known = run.state.rejection
    signers = signers_digest(run) if known is not None and known.by_policy else ""
    refusal = rejection.known_rejection(run.job, run.state, commit, signers)
    if isinstance(refusal, UntrustedError) and run.options.ref is not None:
        return None
    return refusal


def _last_accepted(run: RunState, head: Head, ledger: Ledger, refusal: Refusal) -> WantedSet:
    """Return the set that stays instead of a rejected commit, from the ledger.

    Raises the refusal when there is none.
    """
    recorded = {
        path: row
        for path, row in ledger.recorded().items()
        if row.ownership is not Ownership.UNLISTED
    }
    if not recorded:
        raise refusal
    remote = with_current_ids(applied_set(recorded), run.ctx.resolve_owner)
    commit, digest = run.state.applied_commit or head.commit, run.state.applied_config_digest
    return WantedSet(commit, remote, recorded, digest, refusal)


def _from_ledger(run: RunState, head: Head, ledger: Ledger) -> dict[str, WantedFile] | None:
    """Return the remote snapshot from the ledger, when that is provably the applied one.

    It is, when commit, configuration and rows are those of the last run, and that run finished.
    """
    same_commit = head.commit == run.state.applied_commit
    same_config = run.job.digest == run.state.applied_config_digest
    return _applied_set(run, ledger) if same_commit and same_config else None


def _applied_set(run: RunState, ledger: Ledger) -> dict[str, WantedFile] | None:
    """Return the applied set from the ledger; None where the last run did not finish, or where a
    row is missing.
    """
    if not run.state.consistent:
        return None
    entries = applied_set(ledger.recorded())
    if set_digest(entries) != run.state.applied_files_digest or has_unnamed_owner(entries):
        return None
    return with_current_ids(entries, run.ctx.resolve_owner)


def _from_listing(run: RunState, head: Head, ledger: Ledger, tree: str | None) -> WantedSet:
    """List the commit and return what the job's rules and policies make of it.

    `tree` is the commit's tree where a signature vouches for it. The contents of LFS pointers are
    not fetched past a limit.
    """
    job, ctx = run.job, run.ctx
    run.deadline.progress.step(Step.LISTING)
    listing = ctx.source.listing(
        job.repo, head.commit, job.paths, ctx.store, run.deadline, max_listed(job), tree
    )
    remote = desired(job, listing, ctx.resolve_owner)
    limit = set_limit_error(job, remote)
    if limit is None and job.lfs is Lfs.FETCH:
        contents = CommitContents(job, head.commit, ctx.source, ctx.blobs, run.deadline)
        same_rules = run.state.applied_config_digest == job.digest
        try:
            remote = with_contents(contents, remote, ledger.recorded(), same_rules)
        except LimitError as error:
            limit = error
    return WantedSet(head.commit, remote, ledger.recorded(), job.digest, limit=limit)


__all__ = ["Ledger", "StoredLedger", "WantedSet", "known_head", "resolve_wanted", "wanted_set"]
