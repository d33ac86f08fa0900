"""The frozen values that the parts of syncd hand to each other. No behaviour beyond what a value knows of itself.

Paths inside a repository are relative, `/`-separated text without a trailing slash (`""` is its root). A destination is absolute text.
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

from syncd.colliding_names import fold
from syncd.errors import SyncdError

# --- policies ---------------------------------------------------------------------------------------------------------


class Prune(StrEnum):
    TRACKED = "tracked"
    OFF = "off"


class Drift(StrEnum):
    RESTORE = "restore"
    REPORT = "report"
    KEEP = "keep"


class Symlinks(StrEnum):
    KEEP = "keep"
    SKIP = "skip"
    REFUSE = "refuse"


class Submodules(StrEnum):
    SKIP = "skip"
    REFUSE = "refuse"


class Lfs(StrEnum):
    REFUSE = "refuse"
    FETCH = "fetch"
    POINTER = "pointer"


class Publish(StrEnum):
    FILES = "files"
    SYMLINK = "symlink"


class Limits(Struct, frozen=True):
    """Where a run stops for a person. Exactly one of `delete_share` (0..1, counts past 10 removals) and `delete_count` is set."""

    delete_share: float | None = 0.5
    delete_count: int | None = None
    files: int = 10_000
    size_bytes: int = 1 << 30
    empty: bool = False


class Require(Struct, frozen=True):
    verified: bool = False
    fast_forward: bool = False


class Hook(Struct, frozen=True):
    """An operator's command: `argv` as given or split, `("sh", "-c", text)` when a shell was asked for, or the names of built-in validators."""

    text: str
    argv: tuple[str, ...] = ()
    shell: bool = False
    checks: tuple[str, ...] = ()


class PathRule(Struct, frozen=True):
    """One item of `paths:`. `source` and `to` carry no trailing slash; `directory` says whether they had one."""

    source: str
    to: str
    directory: bool
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mode: int | None = None
    owner: str | None = None
    dir_mode: int | None = None


class Job(Struct, frozen=True, dict=True):  # which the digest is kept in
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
    timeout_seconds: float = 600.0
    hook_timeout_seconds: float = 60.0
    hook_user: str | None = None

    @cached_property
    def digest(self) -> str:
        """Changes when, and only when, what the job puts on disk or how it judges it may change. Schedules and hook texts are left out."""
        timing = {
            "every_seconds",
            "cron",
            "jitter_seconds",
            "on_push",
            "timeout_seconds",
            "hook_timeout_seconds",
        }
        hooks = {"validate", "on_change", "undo_on_failure", "hook_user"}
        kept = {key: value for key, value in to_builtins(self).items() if key not in timing | hooks}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


# --- what is there ----------------------------------------------------------------------------------------------------

PERMISSIONS = 0o777  # the bits that a `mode` or `dir_mode` can ask for


class TreeEntry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What git says of one path at a commit: git's mode (0o100644, ...), object id, size in bytes where GitHub told it."""

    mode: int
    id: str
    size: int | None = None


class Listing(Struct, frozen=True):
    """Everything the job's rules list at one commit: repository path -> entry, complete and verified, before include, exclude and policies."""

    entries: Mapping[str, TreeEntry]


class Kind(StrEnum):
    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    OTHER = "other"


class WantedFile(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one destination shall be. `mode` is permission bits (0 for a link); `uid` and `gid` are None where nobody asked; `source` is the
    repository path; `size` bytes where known; `root` the operator's folder above the listed `to`: links are followed down to it and never
    below it; `dir_mode` what folders made for it get. None of these says what the content is; a folder has none.
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
    pointer: str | None = (
        None  # where Git LFS holds the content: the blob id of the pointer in the repository
    )
    executable: bool | None = (
        None  # what git says, whatever `mode` was given; None where an older ledger does not know
    )
    owner: str | None = None  # the configured owner that `uid` and `gid` were looked up from

    def same_content(self, other: WantedFile | LocalFile | None) -> bool:
        return other is not None and other.kind is self.kind and other.blob == self.blob

    def same_permissions(self, other: WantedFile | LocalFile) -> bool:
        """Mode and owner agree, where they mean something. A folder's setgid and sticky bits are whoever's put them there."""
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
    """What lstat said when the bytes were known; equal stat means equal bytes as far as the kernel tells. Times in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def smudged(self) -> Stat:
        """The same with a size that no file has: it equals nothing that lstat says."""
        return Stat(self.device, self.inode, -1, self.mtime_ns, self.ctime_ns)


class LocalFile(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What stands at a destination now. `blob` is None for a folder or special file, for a file that can't be read, which `problem` says,
    and for a large one that was not read because its size is wrong.

    `racy`: an edit after the bytes were known may have left `stat` as it is (mirror/racy.py).
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
        """Whether it is a file whose size alone says that its content is not what is wanted."""
        return self.kind is Kind.FILE and self.blob is None and self.problem is None

    @property
    def recordable_stat(self) -> Stat:
        """The stat for the ledger: a racy one is smudged, so that the bytes are read again."""
        return self.stat.smudged if self.racy else self.stat

    def is_file_of(self, row: LedgerRow) -> bool:
        """Whether this is the very file that the row was made of, wherever it is now."""
        if row.stat is None:
            return False
        return self.stat == row.stat or (
            row.stat == self.stat.smudged and row.entry.same_content(self)
        )


class Ownership(StrEnum):
    """How a ledger row came to be."""

    OWNED = "ours"  # syncd wrote or adopted these bytes
    FOREIGN = (
        "met"  # a different file stood there and policy left it: `blob` is what upstream had then
    )
    UNLISTED = "dropped"  # upstream dropped it, `prune: off` left it


class RealFolder(Struct, frozen=True):
    """A folder's path with every link resolved; where its disk ignores case, folded from the mount point on."""

    path: str
    ignores_case: bool = False

    def join(self, rest: str) -> str:
        """The real path of what is at `rest` below the folder. Two spellings of one file have the same."""
        return self.path.rstrip("/") + (fold(rest) if self.ignores_case else rest)


class LedgerRow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One row of the ledger: what we last made of a destination, and what lstat said of it right after.

    `wanted`: what the set has, where a policy left something else; `real`: without links above its root.
    """

    entry: WantedFile
    stat: Stat | None
    ownership: Ownership = Ownership.OWNED
    wanted: WantedFile | None = None
    real: str | None = None
    mount: str | None = None  # the mount point that it was below when it was recorded; None for `/`

    def at(self, root: str, real: str) -> LedgerRow:
        """The row of the same file under a path that is below `root`."""
        wanted = None if self.wanted is None else replace(self.wanted, root=root)
        return replace(self, entry=replace(self.entry, root=root), wanted=wanted, real=real)

    @property
    def upstream(self) -> WantedFile:
        """What the repository had there when it was last applied."""
        return self.wanted or self.entry


# --- what shall happen ------------------------------------------------------------------------------------------------


class ActionKind(StrEnum):
    WRITE = "write"
    RESTORE = "restore"
    MODE = "mode"
    REMOVE = "remove"
    KEEP = "keep"
    ADOPT = "adopt"  # already so; only the ledger is behind
    FORGET = "forget"  # gone on both sides; the ledger row goes

    @property
    def touches_disk(self) -> bool:
        return self in (ActionKind.WRITE, ActionKind.RESTORE, ActionKind.MODE, ActionKind.REMOVE)

    @property
    def is_public(self) -> bool:
        return self not in (ActionKind.ADOPT, ActionKind.FORGET)


class Action(Struct, frozen=True):
    """One step of a plan. `expect` is what stood there when it was decided, checked again at the moment of acting."""

    kind: ActionKind
    path: str
    wanted: WantedFile | None
    recorded: LedgerRow | None
    expected: LocalFile | None
    reason: str
    is_drift: bool = False
    replaces_foreign: bool = False  # foreign bytes stand here and go to the trash

    @property
    def is_directory(
        self,
    ) -> bool:  # one that syncd made: its mode and owner, no content, no ledger row
        return self.wanted is not None and self.wanted.kind is Kind.DIRECTORY


class Plan(Struct, frozen=True):
    """Every action, in path order, and how many destinations stay as they are."""

    actions: tuple[Action, ...]
    files: int = 0

    def of(self, *kinds: ActionKind) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.kind in kinds)

    @property
    def changes_disk(self) -> bool:
        return any(action.kind.touches_disk for action in self.actions)

    @property
    def drift_count(self) -> int:
        return sum(action.is_drift for action in self.actions)


class Change(Struct, frozen=True):
    """One line of the public report (contract section 3)."""

    action: ActionKind
    path: str
    source: str | None
    before: str | None
    after: str | None
    detail: str = ""


class RunStatus(StrEnum):
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"


class Trigger(StrEnum):
    SCHEDULE = "schedule"
    PUSH = "push"
    OPERATOR = "operator"
    START = "start"
    RETRY = "retry"
    ROLLBACK = "rollback"

    @property
    def interactive(self) -> bool:
        """Somebody waits for it: a hand, or whoever has just pushed."""
        return self in (Trigger.PUSH, Trigger.OPERATOR, Trigger.ROLLBACK)


class RunReport(Struct, frozen=True):
    """What one run did; log line, metric, JSON and history are readings of it."""

    job: str
    status: RunStatus
    repo: str
    ref: str | None
    commit: str | None
    previous: str | None
    changes: tuple[Change, ...] = ()
    bytes_written: int = 0
    seconds: float = 0.0
    requests: int = (
        0  # HTTP exchanges of this run, without those whose answer it shared with another
    )
    error: SyncdError | None = None
    trigger: Trigger = Trigger.OPERATOR
    started_at: datetime | None = None
    files: int = 0
    drift_count: int = 0
    reload_pending: bool = False
    notes: tuple[str, ...] = ()
    took_over_from: tuple[str, ...] = ()
