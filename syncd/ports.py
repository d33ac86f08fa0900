"""The few methods the engine asks of its neighbours. Every implementation runs against the same suite in tests/contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

from msgspec import Struct, field

from syncd.deadline import Deadline, no_limit
from syncd.errors import MirrorError
from syncd.models import (
    Action,
    Change,
    Hook,
    Job,
    Kind,
    LedgerRow,
    Listing,
    LocalFile,
    PathRule,
    Plan,
    RealFolder,
    RunReport,
    Stat,
    TreeEntry,
    WantedFile,
)

# --- the remote side --------------------------------------------------------------------------------------------------


class Head(Struct, frozen=True):
    """What a ref names now. `form` is the spelling GitHub answered to (`heads/main`, `tags/v1`, a commit id, `HEAD`); `etag` verbatim, with quotes.

    `unchanged` is True when `commit` is the one that was known before. `checked_at` is when a short name was last
    found to be a branch or a tag and not both, in seconds since 1970.
    """

    commit: str
    etag: str | None = None
    form: str | None = None
    unchanged: bool = False
    checked_at: float | None = None


class BlobRequest(Struct, frozen=True):
    """One blob to fetch: any repository path that holds it, and what git says of it."""

    path: str
    entry: TreeEntry


class Pointer(Struct, frozen=True):
    """What a Git LFS pointer file stands for: the content's sha256 and size in bytes. `path` in the repository names it in messages."""

    oid: str
    size: int
    path: str = ""

    def __eq__(self, other: object) -> bool:  # one content, wherever it is named
        return isinstance(other, Pointer) and (other.oid, other.size) == (self.oid, self.size)

    def __hash__(self) -> int:
        return hash((self.oid, self.size))


class ListingCache(Protocol):
    """Listings by tree id. A tree id never changes its meaning, so what is remembered is never stale; it is verified when recalled."""

    def load_listing(self, tree: str) -> Mapping[str, TreeEntry] | None:
        """Every non-tree path below the tree (relative) -> entry, or None."""

    def save_listing(self, tree: str, entries: Mapping[str, TreeEntry]) -> None: ...


class BlobWriter(Protocol):
    """Where contents are put by git id, verified on the way in."""

    def has(self, blob: str) -> bool: ...

    def add(self, blob: str, chunks: Iterable[bytes], size: int | None) -> int:
        """Keep the content, streamed; the number of bytes. Raises BadResponseError when it does not hash to `blob`; nothing is kept then."""


class PartialDownload(Protocol):
    """A download. `received_bytes` are here, of what the server calls `etag`; it is empty where nothing can be continued."""

    @property
    def etag(self) -> str: ...

    @property
    def received_bytes(self) -> int: ...

    def restart(self, etag: str) -> None:
        """Nothing is here any more; the content comes from its start, under this strong ETag or none."""

    def complete(self, chunks: Iterable[bytes]) -> str:
        """Append the rest; the content's git id. Raises BadResponseError when it is other content; nothing is kept then."""


class Blobs(BlobWriter, Protocol):
    """Contents by git id, verified on the way in and out."""

    def open(self, blob: str) -> BinaryIO:
        """The content from its start. Raises KeyError when it is not here (or turned out damaged, in which case it is gone now)."""

    def open_unverified(self, blob: str) -> BinaryIO:
        """As `open`, for who proves the content while reading it, and calls `discard` when it is another."""

    def discard(self, blob: str) -> None:
        """The content is not here any more."""

    def bulk_writer(self) -> AbstractContextManager[BlobWriter]:
        """For one thread that puts many contents here, one after another; each is here as soon as it was added."""

    def partial_download(self, sha256: str, size: int) -> AbstractContextManager[PartialDownload]:
        """A download of content that is known by its sha256, which an earlier run may have begun."""


class Source(Protocol):
    """One identity's view of GitHub. Safe to use from many threads."""

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        """The commit that `ref` names now. One request, answered 304 when `known` still holds; another for a short name that is due for
        a check. Callers of one (repo, ref) share it. Raises ConfigError for a short name that is both a branch and a tag."""

    def listing(
        self,
        repo: str,
        commit: str,
        rules: Sequence[PathRule],
        memory: ListingCache,
        deadline: Deadline,
        at_most: int | None = None,
    ) -> Listing:
        """Every path the rules list, complete and verified. Raises NotFoundError naming the listed path that is missing, and BrakeError
        as soon as there are more than `at_most` files and folders."""

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        """Every wanted blob is in `blobs`; the bytes downloaded. What was verified stays, whatever fails after it."""

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        """Whether GitHub marks the commit verified, and its reason."""

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        """Whether `commit` is `before` or follows it."""

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        """Pointer -> git id of its content, which is in `blobs`."""


# --- the local side ---------------------------------------------------------------------------------------------------


SMALL_FILE_BYTES = 1 << 20  # one read; larger files are only read where their size may be right
UNKNOWN_SIZE = -1  # the size that is wanted is not known


class Target(Struct, frozen=True, gc=False):
    """A destination to look at: where links stop being followed, and what the ledger says (None: nothing).

    With `is_directory` only a folder of the file system above it is anything at all: a mount, a link or a file there is not the one that
    syncd made, and what comes and goes in the folder is not seen. `size`: so many bytes may be right, besides what the ledger says.
    A file past READ_ANYWAY_BYTES with another size is not read, and its `blob` is None.
    """

    root: str
    recorded: LedgerRow | None
    is_directory: bool = False
    size: int | None = None


class ActionOutcome(Struct, frozen=True):
    """What became of one action: `local` what stands there after it (None: nothing), or the error that left it as it was.

    `before` is the id of what it replaced, where that was only read then.
    """

    local: LocalFile | None
    error: MirrorError | None = None
    before: str | None = None


class CopiedFile(Struct, frozen=True):
    """A file or link that was copied as it was: the stat of the original at that moment, and of the copy.

    `racy`: an edit of either may have left its stat as it is (mirror/racy.py).
    """

    before: Stat
    after: Stat
    racy: bool = False

    @property
    def recordable_stat(self) -> Stat:
        """The stat of the copy for the ledger: a racy one is smudged."""
        return self.after.smudged if self.racy else self.after


class ApplyOutcome(Struct, frozen=True):
    outcomes: Mapping[str, ActionOutcome]
    bytes_written: int = 0
    directories_created: tuple[str, ...] = ()
    directories_removed: tuple[str, ...] = ()
    other_errors: tuple[
        MirrorError, ...
    ] = ()  # what went wrong beside the actions, such as an empty folder that can't be removed
    notes: tuple[str, ...] = ()  # what the report says of an action that went well
    copied: Mapping[str, CopiedFile] = field(
        default_factory=dict
    )  # destinations that nothing was done to, and that are other inodes now


Inodes = Mapping[tuple[int, int], str]
NO_INODES: Inodes = {}


class Mirror(Protocol):
    """The disk below the destinations, reached through directory descriptors, never through a link below a root."""

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        """Destination -> what stands there. Bytes are hashed only where stat differs from the recorded one, which a racy one never equals.

        `check` is called before each folder and each MiB; what it raises ends the scan."""

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        """Whether files of these names, which fold to one name, would be as many files in `folder`; None where looking does not tell.

        Nothing is written, but with an `intent`: then a trial folder that carries its id tells, and is gone after it. Raises MirrorError."""

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Device and inode of those of the folders that exist."""

    def check_replaceable_directories(
        self, actions: Iterable[Action], owned_dirs: frozenset[str]
    ) -> None:
        """Raises MirrorError where a folder that becomes a file holds anything that these actions leave, or is none of `owned_dirs`, which syncd made.

        Nothing is written. Looked at before the first removal: else the files would be gone, and the folder still there."""

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        """Whether these actions can be carried out: roots, links, parents, free space and inodes. The folders that will have to be made.

        Raises MirrorError (nothing was touched)."""

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        owned_dirs: frozenset[str],
        dir_entries: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        """Carry out every action that touches the disk: write all, sync all, rename all, each folder synced once; then removals.

        A removal never unlinks a file that this call wrote, or one of `kept`: (device, inode) -> destination of the files that the
        set has and that no action touches. One bad file does not stop the others. `owned_dirs` are those syncd made before; they go when they become empty. `dir_entries` is what
        folders that are made now get, where that is not what the first file in them says."""

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """Remove temporary files and trial folders that the interrupted `intent` left in these (root, folder) pairs; how many."""

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Remove those of these (root, folder) pairs that are empty: folders that syncd made. Which do not stand any more."""

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        """Folder -> where it really is; what does not exist is taken as written. Raises MirrorError."""

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        """Folder -> the mount point that it is below, without those below `/`. Raises MirrorError."""

    def is_same_file(self, one: str, other: str) -> bool:
        """Whether two destinations are one entry of one folder, by whatever spelling."""

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        """Destination -> how the disk spells it, for those that exist under another spelling."""

    def open(self, path: str, root: str) -> BinaryIO:
        """The bytes of the file, or the text of the link, that stands there now. Raises ChangedUnderneathError when nothing of the kind does, MirrorError."""


# --- the operator's commands ------------------------------------------------------------------------------------------


class StagedFile(Struct, frozen=True):
    """One destination as it will be. `open` gives its bytes, or a link's text; it may raise MirrorError."""

    path: str
    kind: Kind
    mode: int
    open: Callable[[], BinaryIO]


class HookCall(Struct, frozen=True):
    """One command to run, once, for these jobs. `facts` are the SYNCD_ names of its environment, `changes` the JSON of SYNCD_CHANGES."""

    hook: Hook
    jobs: tuple[str, ...]
    facts: Mapping[str, str]
    changes: str
    timeout_seconds: float
    user: str | None = None


class HookResult(Struct, frozen=True):
    """How it ended: with `status`, by `signal`, at its time limit, or it could not be run at all (`problem`, and `hint` what to do).

    `output` is the end of what it printed, at most 64 KiB, redacted.
    """

    status: int | None = None
    signal: int | None = None
    timed_out: bool = False
    problem: str | None = None
    hint: str | None = None
    output: str = ""


class Hooks(Protocol):
    """Runs commands: bounded in time and output, ended with everything they started, never two of one job at once."""

    def validate(
        self, call: HookCall, files: Sequence[StagedFile], deadline: Deadline
    ) -> HookResult:
        """The verdict on the complete set, laid out like `/` below `{staged}`. Raises StoppedError, StoreError, MirrorError."""

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        """Run after the files are in place: `{staged}` is `/`. Raises StoppedError, StoreError."""


# --- the memory -------------------------------------------------------------------------------------------------------


class Intent(Struct, frozen=True):
    """A plan, noted before it is applied. `actions` are those that touch the disk; `folders` those that will be made."""

    id: str
    job: str
    commit: str
    digest: str
    actions: tuple[Action, ...]
    folders: tuple[str, ...]
    reload_after: bool
    started_at: datetime
    reload_was_pending: bool = False  # a reload was owed already, whatever becomes of this intent


class JobState(Struct, frozen=True):
    """What the store knows of a job. `applied_*` is the last accepted set; `rejected_*` the last one that a hook refused.

    `reload_commit` is the commit whose whole set a reload is owed for; None while the set is not whole, and so nothing may be reloaded yet.
    """

    applied_commit: str | None = None
    applied_config_digest: str | None = None
    rejected_commit: str | None = None
    rejected_config_digest: str | None = None
    rejected_reason: str | None = None
    rejected_by_policy: bool = False  # by `require`, and not by a hook
    accepted_commit: str | None = (
        None  # the last head that was accepted of `accepted_history`: what the next one has to follow
    )
    accepted_history: str | None = None
    reload_pending: bool = False
    reload_commit: str | None = None
    reload_attempts: int = 0
    reload_tried_at: datetime | None = None
    undo_blob: str | None = (
        None  # the blob that says what stood before the changes that a reload is owed for
    )
    undo_blobs: tuple[str, ...] = ()  # and the blobs that the way back needs
    undo_begun: bool = False  # the way back has been begun
    reloaded_commit: str | None = None  # the commit that the last successful reload was for
    reload_since: datetime | None = None  # the run since which changes have no reload behind them
    paused_until: datetime | None = None
    paused_reason: str | None = None
    held: bool = False
    failures: int = 0
    consistent: bool = True  # the last run finished whole: recorded files are all there is
    drift_count: int = 0
    directories_to_fix: tuple[
        str, ...
    ] = ()  # folders of ours whose mode and owner are still to be made what the set asks
    files: int = 0  # how many destinations the applied set has
    applied_files_digest: str | None = (
        None  # digest of that set; None for unknown: it is listed again
    )
    last_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_change_at: datetime | None = None
    last_error_kind: str | None = None
    last_error: str | None = None
    notified_as: str | None = (
        None  # the last of the job's states that somebody was told of: `failed`, `drift`, or None for well
    )

    def paused(self, now: datetime) -> bool:
        """Is the job left alone: held after a rollback, or paused by hand and not for a time that is over?"""
        return self.held or (
            self.paused_reason is not None
            and (self.paused_until is None or now < self.paused_until)
        )

    def describe_pause(self) -> str:
        """What to tell of a job that is left alone."""
        until = (
            f" until {self.paused_until:%Y-%m-%dT%H:%M:%SZ}"
            if self.paused_until is not None
            else ""
        )
        return "held after a rollback" if self.held else f"paused{until}: {self.paused_reason}"


class AppliedSet(Struct, frozen=True):
    """One set that stood whole: what a rollback goes back to. `files` is destination -> what stood there."""

    id: int
    job: str
    commit: str
    digest: str
    applied_at: datetime
    pinned: bool
    files: Mapping[str, WantedFile]


class OwnedRow(Struct, frozen=True):
    """A ledger row, the destination it was written as, and the job that has it."""

    path: str
    job: str
    recorded: LedgerRow


class RunRecord(Struct, frozen=True):
    """What `Store.record` makes durable in one transaction, clearing the job's intent.

    `superseded` (path -> job) are rows that go, whoever has them, because the upserts have the same
    files under another path; `handed_over` (path -> job) are rows of this job that another one gets,
    and so are `directories_reassigned`, where None means no job.
    """

    report: RunReport
    upserts: Mapping[str, LedgerRow] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    directories_created: tuple[str, ...] = ()
    directories_removed: tuple[str, ...] = ()
    state: JobState = JobState()
    applied: bool = (
        False  # the whole set of `report.commit` stands: keep it as one of the job's sets
    )
    undone_commit: str | None = None  # the newest set, of this commit, is none to go back to
    superseded: Mapping[str, str] = field(default_factory=dict)
    handed_over: Mapping[str, str] = field(default_factory=dict)
    directories_reassigned: Mapping[str, str | None] = field(default_factory=dict)
    ledger: Mapping[str, LedgerRow] = field(
        default_factory=dict
    )  # what `Store.load_ledger` gave the run: it need not be read again


class Store(ListingCache, Protocol):
    def state(self, job: str) -> JobState: ...

    def save_accepted_commit(self, job: str, state: JobState, begin: bool) -> None:
        """The commit that the next head has to follow is known also when the database is lost; without `begin` only where one was kept so before."""

    def applied_before(self, job: str, commit: str) -> bool:
        """Whether the history has a run of the job that brought the commit."""

    def load_ledger(self, job: str) -> dict[str, LedgerRow]:
        """The job's ledger: destination -> row. Damaged rows are left out: memory that is lost costs time, never files."""

    def owners(self, reals: Iterable[str]) -> dict[str, tuple[OwnedRow, ...]]:
        """Real path -> the ledger rows of that file, for those that have one."""

    def folders(self, job: str) -> frozenset[str]:
        """The folders that syncd made for the job."""

    def folder_owners(self, paths: Iterable[str]) -> dict[str, str]:
        """Folder -> the job that syncd made it for, for those of these that it made."""

    def intent(self, job: str) -> Intent | None: ...

    def begin_intent(self, intent: Intent, state: JobState) -> None:
        """The intent and the reload it will owe, durable together."""

    def record(self, job: str, result: RunRecord) -> None:
        """One transaction. Whether the job is paused is not the run's to say: that stays as it was, but that a run may hold the job."""

    def change_state(self, job: str, change: Callable[[JobState], JobState]) -> JobState:
        """One read-modify-write of a job's state; the state after it."""

    def changes_since(self, job: str, since: datetime) -> tuple[Change, ...]:
        """What the job's runs that began at or after `since` did, the oldest first."""

    def sets(self, job: str) -> Sequence[AppliedSet]:
        """The sets that can be gone back to, the newest first."""

    def head(self, scope: str, repo: str, ref: str | None) -> Head | None:
        """The head last seen under this (host, identity), which may be another than the one applied."""

    def save_head(self, scope: str, repo: str, ref: str | None, head: Head) -> None: ...


__all__ = [
    "Action",
    "ActionOutcome",
    "AppliedSet",
    "ApplyOutcome",
    "BlobRequest",
    "Blobs",
    "CopiedFile",
    "Head",
    "HookCall",
    "HookResult",
    "Hooks",
    "Intent",
    "Job",
    "JobState",
    "LedgerRow",
    "Listing",
    "ListingCache",
    "LocalFile",
    "Mirror",
    "PathRule",
    "Plan",
    "Pointer",
    "RunRecord",
    "Source",
    "StagedFile",
    "Stat",
    "Store",
    "Target",
    "TreeEntry",
    "WantedFile",
]
