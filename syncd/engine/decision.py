"""Decide what a run has to do: find the wanted files, look at the disk, and make the plan.

`decide` changes nothing, so that `plan` and `sync` share it. What is done with the answer is in
`run.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from msgspec import Struct

from syncd.apply_rules import WaitingCommit
from syncd.colliding_names import CollidingNames
from syncd.engine.claims import claim, recognise
from syncd.engine.context import RunState
from syncd.engine.delete_limits import delete_limit_error
from syncd.engine.desired import expected_size
from syncd.engine.directories import OwnedDirectories, directory_targets, unlocking_actions
from syncd.engine.job_ledger import JobLedger
from syncd.engine.name_collisions import refuse_collisions
from syncd.engine.plan import make_plan
from syncd.engine.prefetch import Prefetch
from syncd.engine.protection import exclude_protected
from syncd.engine.special_files import refuse_special_files
from syncd.engine.upstream import Refusal, WantedSet, known_head, resolve_wanted
from syncd.errors import LimitError, MirrorError
from syncd.models import Action, ActionKind, Job, LedgerRow, LocalFile, Plan, WantedFile
from syncd.ports import NO_INODES, Inodes, Target
from syncd.progress import Step


class Decision(Struct, frozen=True):
    """A commit, the files that it asks for, and the plan that follows.

    With a `refusal` the head is a commit that was rejected, and this is about the last accepted set
    instead. With a `limit` the plan may be shown, but not applied. `waiting` is a new commit that
    may not be applied yet, and this is about what is applied now; `overrode` is this commit, where
    only `--now` lets it through. `folders` are the directories
    that syncd made for the job. `kept` are the files of the set that no action touches, where the
    plan removes others. `unverified` are names that the disk may take for one, which only a trial
    shows. With `needs_second_pass` the plan only unlocks directories, and what is in them has to be
    decided after that.
    """

    commit: str
    remote: Mapping[str, WantedFile]
    recorded: Mapping[str, LedgerRow]
    plan: Plan
    ledger: JobLedger
    kept: Inodes = NO_INODES
    refusal: Refusal | None = None
    folders: frozenset[str] = frozenset()
    unverified: tuple[CollidingNames, ...] = ()
    needs_second_pass: bool = False
    limit: LimitError | None = None
    config_digest: str | None = None
    waiting: WaitingCommit | None = None
    overrode: WaitingCommit | None = None

    @property
    def only_waits(self) -> bool:
        """Whether there is nothing to apply: the commit that waits is the job's first."""
        return self.waiting is not None and self.waiting.commit == self.commit

    @property
    def disk_actions(self) -> tuple[Action, ...]:
        """The actions of the plan that change the disk."""
        return tuple(action for action in self.plan.actions if action.kind.touches_disk)


class _Snapshots(Struct, frozen=True):
    """The job's ledger rows, the directories that syncd made for it, and what is on disk."""

    ledger: JobLedger
    directories: OwnedDirectories
    local: Mapping[str, LocalFile | None]


def decide(run: RunState) -> Decision:
    """Resolve the ref once, list what it holds, look at the disk, and choose the actions."""
    known = known_head(run)  # before the ledger is read, which would delay the request
    with Prefetch(run.job.name, run.ctx.store, run.ctx.mirror, run.deadline.check) as prefetch:
        wanted = resolve_wanted(run, prefetch, known)
        if wanted.only_waits:
            ledger = JobLedger(wanted.recorded, {})
            waiting = wanted.waiting
            return Decision(wanted.commit, {}, {}, Plan(()), ledger, waiting=waiting)
        unverified = refuse_collisions(run.job, wanted.remote, run.ctx.mirror)
        found = _first_look(run, wanted, prefetch)
    found = _second_look(run, wanted.remote, found)
    unlocking = unlocking_actions(run.job, found.directories, found.local)
    plan = (
        Plan(unlocking, len(wanted.remote)) if unlocking else _full_plan(run, wanted.remote, found)
    )
    limit = wanted.limit or (None if unlocking else _limit_of(run, plan, wanted.remote, found))
    if limit is None:
        refuse_special_files(plan)
        run.ctx.mirror.check_replaceable_directories(plan.actions, found.ledger.folders)
    return Decision(
        wanted.commit,
        wanted.remote,
        found.ledger.recorded,
        plan,
        found.ledger,
        kept=_existing(wanted.remote, found.local) if plan.of(ActionKind.REMOVE) else NO_INODES,
        refusal=wanted.refusal,
        folders=found.ledger.folders,
        unverified=() if unlocking else unverified,
        needs_second_pass=bool(unlocking),
        limit=limit,
        config_digest=wanted.config_digest,
        waiting=wanted.waiting,
        overrode=wanted.overrode,
    )


def _first_look(run: RunState, wanted: WantedSet, prefetch: Prefetch) -> _Snapshots:
    """Find the job's ledger rows by real path, and look at every destination."""
    run.deadline.progress.step(Step.COMPARING)
    ledger = JobLedger(wanted.recorded, {}, folders=prefetch.folders())
    ledger = claim(run, wanted.remote, ledger)
    ledger = exclude_protected(run.job, run.ctx.protected, run.ctx.mirror, wanted.remote, ledger)
    directories = _directories(run, wanted.remote, ledger)
    local = prefetch.scan(_scan_targets(wanted.remote, ledger, directories))
    return _Snapshots(ledger, directories, local)


def _second_look(run: RunState, remote: Mapping[str, WantedFile], found: _Snapshots) -> _Snapshots:
    """Find the ledger rows of files that only the disk shows to be the same, and look at what that
    adds.
    """
    ledger = recognise(run, remote, found.ledger, found.local)
    if ledger.recorded.keys() == found.ledger.recorded.keys():
        return _Snapshots(ledger, found.directories, found.local)
    directories = _directories(run, remote, ledger)
    targets = _scan_targets(remote, ledger, directories)
    return _Snapshots(ledger, directories, run.ctx.mirror.scan(targets, run.deadline.check))


def _directories(
    run: RunState, remote: Mapping[str, WantedFile], ledger: JobLedger
) -> OwnedDirectories:
    return OwnedDirectories.of(remote, ledger.recorded, ledger.folders, run.state)


def _scan_targets(
    remote: Mapping[str, WantedFile], ledger: JobLedger, directories: OwnedDirectories
) -> dict[str, Target]:
    """Return everything to look at: wanted and recorded destinations, and syncd's directories."""
    recorded = ledger.recorded
    roots = {path: row.entry.root for path, row in recorded.items()}
    roots |= {path: entry.root for path, entry in remote.items()}
    files = {
        path: Target(
            root, recorded.get(path), size=expected_size(remote.get(path), recorded.get(path))
        )
        for path, root in roots.items()
    }
    return files | directory_targets(directories.wanted)


def _full_plan(run: RunState, remote: Mapping[str, WantedFile], found: _Snapshots) -> Plan:
    """Plan everything. Raises MirrorError for a destination that could not be looked at."""
    recorded = found.ledger.recorded
    _refuse_unreadable(run.job, recorded.keys() - remote.keys(), found.local)
    return make_plan(run.job, remote, recorded, found.local, found.directories)


def _limit_of(
    run: RunState, plan: Plan, remote: Mapping[str, WantedFile], found: _Snapshots
) -> LimitError | None:
    recorded = found.ledger.recorded
    allow_delete = run.options.allow_delete
    if run.is_rollback:
        allow_delete = len(recorded)  # the whole set was applied before: there is no doubt
    return delete_limit_error(run.job, plan, remote, recorded, allow_delete)


def _existing(remote: Mapping[str, WantedFile], local: Mapping[str, LocalFile | None]) -> Inodes:
    """Return the files of the set that exist, by inode: no removal may delete one of them."""
    found = ((path, local.get(path)) for path in remote)
    return {(have.stat.device, have.stat.inode): path for path, have in found if have is not None}


def _refuse_unreadable(job: Job, dropped: Set[str], local: Mapping[str, LocalFile | None]) -> None:
    """Raise MirrorError for a destination that cannot be read, or that a foreign link or file leads
    away from.
    """
    for path, have in local.items():
        if have is None or have.problem is None:
            continue
        hint = have.hint
        if path in dropped:
            hint = (
                "to leave what the job wrote there before and begin anew: "
                f"syncd sync {job.name} --forget {job.name}"
            )
        raise MirrorError(have.problem, path=path, id="mirror/unreadable-destination", hint=hint)


__all__ = ["Decision", "decide"]
