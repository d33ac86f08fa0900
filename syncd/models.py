"""Defines the frozen values that the parts of syncd exchange; they have no behaviour of their own.

Paths inside a repository are relative, `/`-separated text without a trailing slash (`""` is its
root). A destination is an absolute path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from syncd.apply_rules import OFF_DISK, ApplyRules, FirstRuns, ReloadSpacing, Rollout, WaitingCommit
from syncd.colliding_names import fold
from syncd.errors import SyncdError
from syncd.policies import Drift, Lfs, Limits, Prune, Publish, Report, Require, Submodules, Symlinks

# --- jobs -----------------------------------------------------------------------------------------


class Hook(Struct, frozen=True):
    """An operator's command.

    `argv` is as given or split, `("sh", "-c", text)` if a shell was asked for. `checks` are the
    names of built-in validators.
    """

    text: str
    argv: tuple[str, ...] = ()
    shell: bool = False
    checks: tuple[str, ...] = ()


class Health(Struct, frozen=True):
    """The check that a change has to pass after `on_change`.

    `failures` checks in a row that fail make the change unhealthy.
    """

    command: Hook
    window_seconds: float = 120.0
    interval_seconds: float = 5.0
    timeout_seconds: float = 5.0
    failures: int = 2


class PathRule(Struct, frozen=True):
    """One item of `paths:`.

    `source` and `to` have no trailing slash; `directory` says whether they had one.
    """

    source: str
    to: str
    directory: bool
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mode: int | None = None
    owner: str | None = None
    dir_mode: int | None = None


class Job(Struct, frozen=True, dict=True):  # which the digest is kept in
    """One configured mirror. `dict=True` lets `digest` be cached."""

    name: str
    identity: str
    repo: str
    ref: str | None
    paths: tuple[PathRule, ...]
    every_seconds: float | None = 300.0
    cron: str | None = None
    jitter_seconds: float = 0.0
    on_push: bool = True
    prune: Prune = Prune.TRACKED
    drift: Drift = Drift.RESTORE
    symlinks: Symlinks = Symlinks.KEEP
    submodules: Submodules = Submodules.SKIP
    lfs: Lfs = Lfs.REFUSE
    owner: str | None = None
    mode: int | None = None
    dir_mode: int = 0o755
    limits: Limits = Limits()
    publish: Publish = Publish.FILES
    keep: int = 5
    validate: Hook | None = None
    on_change: Hook | None = None
    undo_on_failure: bool = False
    require: Require = Require()
    report: Report = Report()
    timeout_seconds: float = 600.0
    hook_timeout_seconds: float = 60.0
    hook_user: str | None = None
    health: Health | None = None
    apply: ApplyRules = ApplyRules()
    reload: ReloadSpacing = ReloadSpacing()
    first: FirstRuns | None = None
    rollout: Rollout | None = None  # of a controller
    where: tuple[tuple[str, str], ...] = ()  # the labels that an agent has to have
    listing_version: str | None = None  # of an agent's source; None: the commit alone decides

    @cached_property
    def digest(self) -> str:
        """Return a digest that changes if, and only if, what the job puts on disk may change.

        What it accepts counts too. Schedules and hook texts are left out.
        """
        kept = {key: value for key, value in to_builtins(self).items() if key not in OFF_DISK}
        kept["require"] = {key: one for key, one in kept["require"].items() if one is not None}
        if self.listing_version is None:
            del kept["listing_version"]
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


# --- what is there --------------------------------------------------------------------------------

PERMISSIONS = 0o777  # the bits that a `mode` or `dir_mode` can ask for


class TreeEntry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What git says of one path at a commit.

    `mode` is git's mode (0o100644, ...), `id` the object id, `size` is in bytes where GitHub gave
    it.
    """

    mode: int
    id: str
    size: int | None = None


class Listing(Struct, frozen=True):
    """Everything that the job's rules list at one commit: repository path -> entry.

    It is complete and verified, before include, exclude and policies.
    """

    entries: Mapping[str, TreeEntry]


class Kind(StrEnum):
    """The kind of a file."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    OTHER = "other"


class WantedFile(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one destination has to be.

    `mode` is permission bits (0 for a link); `uid` and `gid` are None where no owner is configured;
    `source` is the repository path; `size` is in bytes where known. `root` is the operator's folder
    above the listed `to`: links are followed down to it and never below it. `dir_mode` is the mode
    of folders made for it. Of these, only `blob` and `kind` are content; a folder has none.
    """

    blob: str
    mode: int
    kind: Kind = Kind.FILE
    uid: int | None = None
    gid: int | None = None
    source: str = ""
    size: int | None = None
    root: str = "/"
    dir_mode: int = 0o755
    # where Git LFS holds the content: the blob id of the pointer in the repository
    pointer: str | None = None
    # what git says, whatever `mode` was given; None where an older ledger does not know
    executable: bool | None = None
    owner: str | None = None  # the configured owner that `uid` and `gid` were looked up from

    def same_content(self, other: WantedFile | LocalFile | None) -> bool:
        """Return whether kind and bytes agree."""
        return other is not None and other.kind is self.kind and other.blob == self.blob

    def same_permissions(self, other: WantedFile | LocalFile) -> bool:
        """Return whether mode and owner agree, where they mean something.

        A folder's setgid and sticky bits are left to the administrator.
        """
        mode = (
            self.kind is Kind.LINK
            or (other.mode & PERMISSIONS if self.kind is Kind.DIRECTORY else other.mode)
            == self.mode
        )
        return (
            mode
            and (self.uid is None or other.uid == self.uid)
            and (self.gid is None or other.gid == self.gid)
        )


class Stat(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What lstat said when the bytes were known; times are in ns.

    Equal stat means equal bytes as far as the kernel reports changes.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def smudged(self) -> Stat:
        """Return the same with a size that no file has, so that it equals no result of lstat."""
        return Stat(self.device, self.inode, -1, self.mtime_ns, self.ctime_ns)


class LocalFile(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What exists at a destination now.

    `blob` is None for a folder or special file, for a file that can't be read (see `problem`), and
    for a large one that was not read because its size is wrong. `racy`: an edit after the bytes
    were known may have left `stat` as it is (mirror/racy.py).
    """

    kind: Kind
    blob: str | None
    mode: int
    uid: int
    gid: int
    stat: Stat
    problem: str | None = None
    hint: str | None = None
    racy: bool = False

    @property
    def is_unread(self) -> bool:
        """Return whether it is a file whose size alone shows that its content differs."""
        return self.kind is Kind.FILE and self.blob is None and self.problem is None

    @property
    def recordable_stat(self) -> Stat:
        """Return the stat for the ledger: a racy one is smudged, so that the bytes are
        read again.
        """
        return self.stat.smudged if self.racy else self.stat

    def is_file_of(self, row: LedgerRow) -> bool:
        """Return whether this is the file that the row was made of, wherever it is now."""
        if row.stat is None:
            return False
        return self.stat == row.stat or (
            row.stat == self.stat.smudged and row.entry.same_content(self)
        )


class Ownership(StrEnum):
    """How a ledger row came to be."""

    OWNED = "ours"  # syncd wrote or adopted these bytes
    # a different file was there and policy left it: `blob` is what upstream had then
    FOREIGN = "met"
    UNLISTED = "dropped"  # upstream dropped it, `prune: off` left it


class RealFolder(Struct, frozen=True):
    """A folder's path with every link resolved.

    If its disk ignores case, the path is folded from the mount point on.
    """

    path: str
    ignores_case: bool = False

    def join(self, rest: str) -> str:
        """Return the real path of `rest` below the folder. Two spellings of one file have
        the same.
        """
        return self.path.rstrip("/") + (fold(rest) if self.ignores_case else rest)


class LedgerRow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One row of the ledger: what syncd last made of a destination, and what lstat said right
    after.

    `wanted` is what the set has, if a policy left something else; `real` is the path without links
    above its root.
    """

    entry: WantedFile
    stat: Stat | None
    ownership: Ownership = Ownership.OWNED
    wanted: WantedFile | None = None
    real: str | None = None
    mount: str | None = None  # the mount point that it was below when it was recorded; None for `/`

    def at(self, root: str, real: str) -> LedgerRow:
        """Return the row of the same file under a path that is below `root`."""
        wanted = None if self.wanted is None else replace(self.wanted, root=root)
        return replace(self, entry=replace(self.entry, root=root), wanted=wanted, real=real)

    @property
    def upstream(self) -> WantedFile:
        """Return what the repository had there when it was last applied."""
        return self.wanted or self.entry


# --- what shall happen ----------------------------------------------------------------------------


class ActionKind(StrEnum):
    """What an action does to its destination."""

    WRITE = "write"
    RESTORE = "restore"
    MODE = "mode"
    REMOVE = "remove"
    KEEP = "keep"
    ADOPT = "adopt"  # already so; only the ledger is behind
    FORGET = "forget"  # gone on both sides; the ledger row goes

    @property
    def touches_disk(self) -> bool:
        """Return whether it changes the disk, and not only the ledger."""
        return self in (ActionKind.WRITE, ActionKind.RESTORE, ActionKind.MODE, ActionKind.REMOVE)

    @property
    def is_public(self) -> bool:
        """Return whether reports show it."""
        return self not in (ActionKind.ADOPT, ActionKind.FORGET)


class Action(Struct, frozen=True):
    """One step of a plan.

    `expected` is what existed there at planning time; it is checked again at the moment of writing.
    """

    kind: ActionKind
    path: str
    wanted: WantedFile | None
    recorded: LedgerRow | None
    expected: LocalFile | None
    reason: str
    is_drift: bool = False
    replaces_foreign: bool = False  # another program's bytes are here and go to the trash

    @property
    def is_directory(self) -> bool:
        """Return whether it sets mode and owner of a folder that syncd made."""
        return self.wanted is not None and self.wanted.kind is Kind.DIRECTORY


class Plan(Struct, frozen=True):
    """Every action, in path order, and how many destinations stay as they are."""

    actions: tuple[Action, ...]
    files: int = 0

    def of(self, *kinds: ActionKind) -> tuple[Action, ...]:
        """Return the actions of these kinds."""
        return tuple(action for action in self.actions if action.kind in kinds)

    @property
    def changes_disk(self) -> bool:
        """Return whether any action changes the disk."""
        return any(action.kind.touches_disk for action in self.actions)

    @property
    def drift_count(self) -> int:
        """Return how many actions are due to drift."""
        return sum(action.is_drift for action in self.actions)


class Change(Struct, frozen=True):
    """One line of the public report (contract section 3)."""

    action: ActionKind
    path: str
    source: str | None
    before: str | None
    after: str | None
    detail: str = ""
    trash: str | None = None  # the trash entry of what was replaced


class RunStatus(StrEnum):
    """How a run ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"
    WAITING = "waiting"  # nothing to do but a new commit, outside the windows of `apply:`


class Trigger(StrEnum):
    """Why a run started."""

    SCHEDULE = "schedule"
    PUSH = "push"
    OPERATOR = "operator"
    START = "start"
    RETRY = "retry"
    ROLLBACK = "rollback"

    @property
    def interactive(self) -> bool:
        """Return whether a person waits for it: a manual run, or a push."""
        return self in (Trigger.PUSH, Trigger.OPERATOR, Trigger.ROLLBACK)


class CommitSummary(Struct, frozen=True):
    """Who made a commit, and the first line of its message. Both are text from outside."""

    subject: str
    author: str


class RunReport(Struct, frozen=True):
    """What one run did; log line, metrics, JSON and history are derived from it."""

    job: str
    status: RunStatus
    repo: str
    ref: str | None
    commit: str | None
    previous: str | None
    changes: tuple[Change, ...] = ()
    bytes_written: int = 0
    seconds: float = 0.0
    # HTTP exchanges of this run, without those whose answer it shared with another
    requests: int = 0
    error: SyncdError | None = None
    trigger: Trigger = Trigger.OPERATOR
    started_at: datetime | None = None
    files: int = 0
    drift_count: int = 0
    reload_pending: bool = False
    checking: bool = False  # the health of the change is not known yet
    notes: tuple[str, ...] = ()
    took_over_from: tuple[str, ...] = ()
    commit_summary: CommitSummary | None = None  # of a commit that is not applied yet
    waiting: WaitingCommit | None = None  # what is not applied yet, for `apply:`
    reload_at: datetime | None = None  # when a reload that `reload:` puts off may run
    overrode: str | None = None  # what of `apply:` would have kept the commit, but for `--now`
    # of the health window that an earlier run left open, and that this one-shot ended first
    ended_window: RunReport | None = None
