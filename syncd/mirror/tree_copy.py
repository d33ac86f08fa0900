"""Copy what stays from the live tree into the new one: files, links and their directories.

Each keeps its owner, mode and times. It is a copy, not a hard link: with a link one edit in place
would change every tree at once, the kept ones too. Where the file system can (XFS, btrfs) the
kernel lets both share their blocks until one is written to. Other processes may write to the live
tree meanwhile: a second pass copies what has changed since the first, and each copy records which
state of its original it is of, so that the ledger never claims more than that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror.attributes import LostAttributes, copy_attributes
from syncd.mirror.cleanup import with_parents
from syncd.mirror.dirfd import mirror_error, opened_below
from syncd.mirror.metadata import check_file, check_folder
from syncd.mirror.permissions import set_mode
from syncd.mirror.racy import KernelClock, is_racy, is_racy_after
from syncd.mirror.scan import stat_of
from syncd.mirror.sparse import copy_sparse
from syncd.mirror.syscalls import hides_write_errors
from syncd.models import PERMISSIONS, Action, ActionKind, Kind, WantedFile
from syncd.ports import CopiedFile
from syncd.tree_walk import MAX_WALK_DEPTH, DirCursor, too_deep_error, walk

FICLONE = 0x40049409  # ioctl_ficlone(2)
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Changes(Struct, frozen=True):
    """What of a tree is not copied as it is, by public path.

    `metadata` has those that get another mode or owner; something is written to the directories of
    `needed`, and something is removed from those of `emptied`.
    """

    written: frozenset[str]
    removed: frozenset[str]
    metadata: Mapping[str, WantedFile]
    needed: frozenset[str]
    emptied: frozenset[str]

    @classmethod
    def of(cls, actions: Sequence[Action]) -> Changes:
        """Return the changes that these actions make."""
        written = frozenset(
            action.path
            for action in actions
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        )
        removed = frozenset(action.path for action in actions if action.kind is ActionKind.REMOVE)
        metadata = {
            action.path: action.wanted
            for action in actions
            if action.kind is ActionKind.MODE and action.wanted is not None
        }
        return cls(written, removed, metadata, _all_parents(written), _all_parents(removed))

    def excludes(self, path: str) -> bool:
        """Return whether the file or link is written or removed."""
        return path in self.written or path in self.removed

    def may_remove_directory(self, path: str) -> bool:
        """Return whether something is removed from the directory and nothing written to it."""
        return path in self.emptied and path not in self.needed


class TreeCopy(Struct):
    """The copy of one open tree into another; `public` is what the paths of both begin with.

    `files` has what was copied, by public path. `_racy` are those whose original may have been
    edited since, unseen.
    """

    source: int
    target: int
    public: str
    changes: Changes
    clock: KernelClock
    lost: LostAttributes
    files: dict[str, CopiedFile] = field(default_factory=dict)
    _folders: set[str] = field(default_factory=set)
    _racy: set[str] = field(default_factory=set)

    def copy_changes(self) -> int:
        """Make the target hold what the source holds now, except for the changes.

        Returns how many files and links that took. Raises MirrorError, OSError.
        """
        seen: set[str] = set()
        with closing(DirCursor(self.source)) as source, closing(DirCursor(self.target)) as target:
            count = self._copy_below(source, target, seen)
        for path in sorted((self.files.keys() | self._folders) - seen, key=len, reverse=True):
            self._remove_vanished(path)
            count += 1
        return count

    def _copy_below(self, source: DirCursor, target: DirCursor, seen: set[str]) -> int:
        """Copy all below the two open directories; return how many files and links that took."""
        count, levels = 0, [iter(sorted(list_names(source.folder)))]
        folders: list[os.stat_result] = []
        while levels:
            name = next(levels[-1], None)
            if name is None:
                levels.pop()
                if levels:
                    self._leave(source, target, folders.pop())
                continue
            found = _lstat(source.folder, name)
            path = posixpath.join(self.public, *source.names, name)
            if found is None:
                continue
            if not stat.S_ISDIR(found.st_mode):
                if not self.changes.excludes(path):
                    seen.add(path)
                    count += self._copy_entry(source.folder, target.folder, path, found)
            elif self._enter(source, target, path, seen):
                folders.append(found)
                levels.append(iter(sorted(list_names(source.folder))))
        return count

    def _enter(self, source: DirCursor, target: DirCursor, path: str, seen: set[str]) -> bool:
        """Enter the directory `path` in both trees; False where nothing of it is copied."""
        name = posixpath.basename(path)
        if len(source.names) >= MAX_WALK_DEPTH:
            raise too_deep_error(self.public, [*source.names, name], MAX_WALK_DEPTH)
        with opened_below(source.folder, [name]) as inner:
            if path in self.changes.written:
                self._check_replaceable(inner, path)
                return False
            if self.changes.may_remove_directory(path) and not self._keeps_anything(inner, path):
                return False  # a directory from which the last file is removed
        seen.add(path)
        if path not in self._folders:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=target.folder)
            self._folders.add(path)
        source.down(name)
        target.down(name)
        return True

    def _leave(self, source: DirCursor, target: DirCursor, found: os.stat_result) -> None:
        """Go up from a directory that is complete now; set its mode, owner and attributes."""
        path = posixpath.join(self.public, *source.names)
        wanted = self.changes.metadata.get(path)
        mode = stat.S_IMODE(found.st_mode)
        if wanted is not None:
            mode = wanted.mode | mode & ~PERMISSIONS
        new = target.folder
        if os.geteuid() == 0 or wanted is not None:
            os.fchown(new, *copy_owner(found, wanted))
        set_mode(f"/proc/self/fd/{new}", mode)
        copy_attributes(source.folder, new, mode, path, self.lost)
        check_folder(path, mode, os.fstat(new), *_asked_owner(wanted))
        _sync_if_errors_hidden(new)
        source.up()
        target.up()

    def _keeps_anything(self, folder: int, public: str) -> bool:
        """Return whether anything in the directory stays."""
        for step in walk(folder, public):
            path = f"{public}/{step.path}"
            removed = (
                self.changes.may_remove_directory(path)
                if step.is_folder
                else self.changes.excludes(path)
            )
            if not removed:
                return True
        return False

    def _check_replaceable(self, folder: int, path: str) -> None:
        """Raise MirrorError where a directory that becomes a file holds anything that stays."""
        for step in walk(folder, path):
            inner = f"{path}/{step.path}"
            if not step.is_folder and not self.changes.excludes(inner):
                raise MirrorError(
                    f"the directory {path} is in the way of a file and not empty: {inner}",
                    id="mirror/directory-not-empty",
                    path=path,
                    hint="move what is in it away; syncd did not write it",
                )

    def _copy_entry(self, source: int, target: int, path: str, found: os.stat_result) -> int:
        """Copy a file or link that has changed since it was last copied; return how many."""
        known, name = self.files.get(path), posixpath.basename(path)
        if known is not None and known.before == stat_of(found) and path not in self._racy:
            return 0
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
            raise _special_file(path)
        wanted = self.changes.metadata.get(path)
        try:
            if known is not None:
                os.unlink(name, dir_fd=target)
            began_ns = self.clock.now_ns()
            if stat.S_ISLNK(found.st_mode):
                copied = _copy_link(source, target, name, wanted)
            else:
                copied = _copy_file(source, target, path, wanted, self.lost)
            self._record(path, began_ns, copied)
        except FileNotFoundError:  # it has just been removed
            self.files.pop(path, None)
        except OSError as error:
            raise mirror_error("copy", path, error) from error
        return 1

    def _record(self, path: str, began_ns: int, copied: CopiedFile) -> None:
        """Record the copy, and whether it may be of other bytes than its stat says."""
        self._racy.discard(path)
        if is_racy(copied.before, began_ns):
            self._racy.add(path)
        racy = path in self._racy or is_racy_after(copied.after, copied.before.mtime_ns)
        self.files[path] = replace(copied, racy=racy)

    def _remove_vanished(self, path: str) -> None:
        """Remove from the target what is no longer in the source.

        A directory is removed only when nothing was written to it.
        """
        inside = posixpath.dirname(path[len(self.public) :]).strip("/")
        with opened_below(self.target, inside.split("/") if inside else ()) as folder:
            if self.files.pop(path, None) is not None:
                os.unlink(posixpath.basename(path), dir_fd=folder)
                return
            self._folders.discard(path)
            try:
                os.rmdir(posixpath.basename(path), dir_fd=folder)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def _special_file(path: str) -> MirrorError:
    return MirrorError(
        f"{path} is not a file, directory or link; a tree with it can't be published again",
        id="mirror/special-file",
        path=path,
        hint="remove it",
    )


def copied_sizes(folder: int, public: str, changes: Changes) -> Iterator[int]:
    """Yield the size in bytes of every file that would be copied, and 0 for each link."""
    for step in walk(folder, public):
        if not step.is_folder and not changes.excludes(f"{public}/{step.path}"):
            yield step.found.st_size if stat.S_ISREG(step.found.st_mode) else 0


def shares_blocks(folder: int) -> bool:
    """Return whether files on this file system can share blocks until one is written to.

    It tries with two files that have no name.
    """
    try:
        one = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError:
        return False  # no such files here: no sharing either, as far as syncd knows
    try:
        os.write(one, b"x")
        other = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            fcntl.ioctl(other, FICLONE, one)
        finally:
            os.close(other)
    except OSError:
        return False
    finally:
        os.close(one)
    return True


def copy_owner(found: os.stat_result, wanted: WantedFile | None) -> tuple[int, int]:
    """Return user and group of a copy: those of the original, except for what is wanted."""
    uid, gid = _asked_owner(wanted)
    return found.st_uid if uid is None else uid, found.st_gid if gid is None else gid


def _asked_owner(wanted: WantedFile | None) -> tuple[int | None, int | None]:
    return (None, None) if wanted is None else (wanted.uid, wanted.gid)


def _sync_if_errors_hidden(descriptor: int) -> None:
    """Sync it where the sync of everything at the end would not report an error.

    See filesystem_sync.py.
    """
    if hides_write_errors(descriptor):
        os.fsync(descriptor)


def _copy_file(
    source: int, target: int, path: str, wanted: WantedFile | None, lost: LostAttributes
) -> CopiedFile:
    """Copy the file with its owner, mode, times and attributes, or the wanted mode and owner."""
    name = posixpath.basename(path)
    reading = os.open(name, READ, dir_fd=source)
    try:
        found = os.fstat(reading)
        writing = os.open(name, CREATE, 0o600, dir_fd=target)
        try:
            copy_sparse(reading, writing, found.st_size)
            if os.geteuid() == 0 or wanted is not None:
                os.fchown(writing, *copy_owner(found, wanted))
            mode = wanted.mode if wanted is not None else stat.S_IMODE(found.st_mode)
            os.fchmod(writing, mode)
            copy_attributes(reading, writing, mode, path, lost)
            asked = WantedFile("", mode, Kind.FILE, *_asked_owner(wanted))
            check_file(path, asked, os.fstat(writing))
            os.utime(writing, ns=(found.st_atime_ns, found.st_mtime_ns))
            _sync_if_errors_hidden(writing)
            return CopiedFile(stat_of(found), stat_of(os.fstat(writing)))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_link(source: int, target: int, name: str, wanted: WantedFile | None) -> CopiedFile:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    if os.geteuid() == 0 or wanted is not None:
        os.chown(name, *copy_owner(found, wanted), dir_fd=target, follow_symlinks=False)
    stamps = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=stamps, dir_fd=target, follow_symlinks=False)
    return CopiedFile(stat_of(found), stat_of(os.stat(name, dir_fd=target, follow_symlinks=False)))


def _lstat(folder: int, name: str) -> os.stat_result | None:
    """Return what `name` is; None where it was removed meanwhile."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def list_names(folder: int) -> list[str]:
    """Return the names in the open directory, listed through a descriptor of its own.

    To list one descriptor twice relies on going back to its start, which nothing checks.
    """
    with opened_below(folder, ()) as again:
        return os.listdir(again)


def _all_parents(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(folder for path in paths for folder in with_parents(posixpath.dirname(path)))
