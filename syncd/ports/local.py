"""The local side: the disk below the destinations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO, Protocol

from msgspec import Struct, field

from syncd.deadline import no_limit
from syncd.errors import MirrorError
from syncd.models import Action, Job, LedgerRow, LocalFile, RealFolder, Stat, WantedFile
from syncd.ports.remote import Blobs

SMALL_FILE_BYTES = 1 << 20  # one read; larger files are only read where their size may be right
UNKNOWN_SIZE = -1  # the size that is wanted is not known

Inodes = Mapping[tuple[int, int], str]  # (device, inode) -> destination
NO_INODES: Inodes = {}


class Target(Struct, frozen=True, gc=False):
    """A destination to look at: the root where links stop being followed, and its ledger row, if
    any.

    With `is_directory` only a directory of the file system above it counts: a mount, a link or a
    file there is not the one that syncd made, and what is in the directory is not looked at. `size`
    is a size that may be right besides the ledger's. A file past SMALL_FILE_BYTES with another size
    is not read, and its `blob` is None.
    """

    root: str
    recorded: LedgerRow | None
    is_directory: bool = False
    size: int | None = None


class ActionOutcome(Struct, frozen=True):
    """What became of one action.

    `local` is what is there after it (None: nothing); `error` left it as it was. `before` is the id
    of what it replaced, where that was read only then.
    """

    local: LocalFile | None
    error: MirrorError | None = None
    before: str | None = None


class CopiedFile(Struct, frozen=True):
    """A file or link that was copied as it was: the stat of the original at that moment, and of the
    copy.

    `racy`: an edit of either may have left its stat as it is (mirror/racy.py).
    """

    before: Stat
    after: Stat
    racy: bool = False

    @property
    def recordable_stat(self) -> Stat:
        """The stat for the ledger; a racy one is changed, so that the file is read again."""
        return self.after.smudged if self.racy else self.after


class ApplyOutcome(Struct, frozen=True):
    """What became of all actions of a plan, by destination.

    `other_errors` went wrong beside the actions, such as an empty directory that can't be removed.
    `notes` are for the report, about actions that went well. `copied` are destinations that nothing
    was done to, and that are other inodes now.
    """

    outcomes: Mapping[str, ActionOutcome]
    bytes_written: int = 0
    directories_created: tuple[str, ...] = ()
    directories_removed: tuple[str, ...] = ()
    other_errors: tuple[MirrorError, ...] = ()
    notes: tuple[str, ...] = ()
    copied: Mapping[str, CopiedFile] = field(default_factory=dict)


class Mirror(Protocol):
    """The disk, reached through directory descriptors, never through a link below a root."""

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        """Return destination -> what is there.

        Bytes are hashed only where stat differs from the recorded one; a racy stat always differs.
        `check` is called before each directory and each MiB; what it raises ends the scan.
        """

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        """Return whether files of these names, which fold to one name, are as many files in
        `folder`.

        None where looking does not show it. Nothing is written without an `intent`; with one, a
        trial directory that carries its id shows it, and is removed after that. Raises MirrorError.
        """

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return device and inode of those of the directories that exist."""

    def check_replaceable_directories(
        self, actions: Iterable[Action], owned_dirs: frozenset[str]
    ) -> None:
        """Raise MirrorError where a directory that becomes a file may not be removed.

        It may not when it holds anything that these actions leave, or is none of `owned_dirs`,
        which syncd made. Nothing is written. This comes before the first removal: else the files
        would be gone, and the directory still there.
        """

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        """Check that these actions can be carried out; return the directories that have to be made.

        Checked are roots, links, parents, free space and inodes. Raises MirrorError; nothing was
        changed then.
        """

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        owned_dirs: frozenset[str],
        dir_entries: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        """Carry out every action that changes the disk.

        Writes all, syncs all, renames all, with each directory synced once; then removes. One bad
        file does not stop the others. A removal never unlinks a file that this call wrote, or one
        of `kept`, the files of the set that no action touches. `owned_dirs` are the directories
        that syncd made before; they are removed when they become empty. `dir_entries` is what
        directories that are made now get, where the first file in them does not say it. Six
        parameters: they are the whole of one change, and the intent names it.
        """

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """Remove what the interrupted `intent` left in these (root, directory) pairs; return how
        many.

        These are temporary files and trial directories.
        """

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Remove those of these (root, directory) pairs that are empty; return those that are gone.

        They are directories that syncd made.
        """

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        """Return directory -> where it really is; what does not exist is taken as written.

        Raises MirrorError.
        """

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        """Return directory -> the mount point that it is below, without those below `/`.

        Raises MirrorError.
        """

    def is_same_file(self, one: str, other: str) -> bool:
        """Return whether two destinations are one entry of one directory, by whatever spelling."""

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        """Return destination -> how the disk spells it, for those that it spells another way."""

    def open(self, path: str, root: str) -> BinaryIO:
        """Open the file, or the text of the link, that is there now.

        Raises ChangedUnderneathError when it is neither, MirrorError.
        """


__all__ = [
    "NO_INODES",
    "SMALL_FILE_BYTES",
    "UNKNOWN_SIZE",
    "ActionOutcome",
    "ApplyOutcome",
    "CopiedFile",
    "Inodes",
    "Mirror",
    "Target",
]
