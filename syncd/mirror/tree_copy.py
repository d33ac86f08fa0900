"""What stays is carried from the live tree into the new one: files and links with their owner, mode and times, and the folders that hold them.

A copy, not a hard link: with a link one edit in place would change every tree at once, the kept ones too. Where the file system can
(XFS, btrfs) the kernel lets both share their blocks until one is written to. Somebody may write to the live tree meanwhile: a second
pass brings what has changed since the first, and each copy says which state of its original it is of, so that the ledger is never
told more than that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror.attributes import LostAttributes, copy_attributes
from syncd.mirror.cleanup import with_parents
from syncd.mirror.dirfd import OPEN_DIR_NOFOLLOW, mirror_error
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


class Changes(Struct, frozen=True):
    """What of a tree is not carried as it is, by public path: what is written, what is removed, and what gets another mode or owner."""

    written: frozenset[str]
    removed: frozenset[str]
    looks: Mapping[str, WantedFile]
    needed: frozenset[str]  # folders that something is written to
    emptied: frozenset[str]  # folders that something is removed from

    @classmethod
    def of(cls, actions: Sequence[Action]) -> Changes:
        written = frozenset(
            action.path
            for action in actions
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        )
        removed = frozenset(action.path for action in actions if action.kind is ActionKind.REMOVE)
        looks = {
            action.path: action.wanted
            for action in actions
            if action.kind is ActionKind.MODE and action.wanted is not None
        }
        return cls(written, removed, looks, _all_parents(written), _all_parents(removed))

    def goes(self, path: str) -> bool:
        return path in self.written or path in self.removed


class TreeCopy(Struct):
    """One tree's way into another, both open; `public` is what the paths of both begin with."""

    source: int
    target: int
    public: str
    instead: Changes
    clock: KernelClock
    lost: LostAttributes
    files: dict[str, CopiedFile] = field(default_factory=dict)  # by public path
    _folders: set[str] = field(default_factory=set)
    _racy: set[str] = field(
        default_factory=set
    )  # whose original may have been edited since, unseen

    def once(self) -> int:
        """The target holds what the source holds now, but for what comes instead; how many files and links that took. Raises MirrorError, OSError."""
        seen: set[str] = set()
        with closing(DirCursor(self.source)) as source, closing(DirCursor(self.target)) as target:
            count = self._carry(source, target, seen)
        for path in sorted((self.files.keys() | self._folders) - seen, key=len, reverse=True):
            self._remove_vanished(path)
            count += 1
        return count

    def _carry(self, source: DirCursor, target: DirCursor, seen: set[str]) -> int:
        """All below the two open folders, side by side; how many files and links that took."""
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
                if not self.instead.goes(path):
                    count += self._one(source.folder, target.folder, path, found, seen)
            elif self._enter(source, target, path, seen):
                folders.append(found)
                levels.append(iter(sorted(list_names(source.folder))))
        return count

    def _enter(self, source: DirCursor, target: DirCursor, path: str, seen: set[str]) -> bool:
        """Whether both are in the folder `path` now; false where nothing of it is carried."""
        name = posixpath.basename(path)
        if len(source.names) >= MAX_WALK_DEPTH:
            raise too_deep_error(self.public, [*source.names, name], MAX_WALK_DEPTH)
        with _opened_subdirectory(source.folder, name) as inner:
            if path in self.instead.written:
                self._check_emptied(inner, path)
                return False
            going = path in self.instead.emptied and path not in self.instead.needed
            if going and not self._holds(inner, path):
                return False  # a folder from which the last file goes
        seen.add(path)
        if path not in self._folders:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=target.folder)
            self._folders.add(path)
        source.down(name)
        target.down(name)
        return True

    def _leave(self, source: DirCursor, target: DirCursor, found: os.stat_result) -> None:
        """Both go up from a folder that is complete now, and looks as it did, or as is wanted."""
        path = posixpath.join(self.public, *source.names)
        looks = self.instead.looks.get(path)
        _set_directory_metadata(source.folder, target.folder, path, found, looks, self.lost)
        _sync_if_errors_hidden(target.folder)
        source.up()
        target.up()

    def _holds(self, folder: int, public: str) -> bool:
        """Does anything in the folder stay?"""

        def empties(path: str) -> bool:
            return path in self.instead.emptied and path not in self.instead.needed

        for step in walk(folder, public):
            path = f"{public}/{step.path}"
            if not (empties(path) if step.is_folder else self.instead.goes(path)):
                return True
        return False

    def _check_emptied(self, folder: int, path: str) -> None:
        """Raises MirrorError where a file gets the name of a folder that holds anything but what goes."""
        for step in walk(folder, path):
            inner = f"{path}/{step.path}"
            if not step.is_folder and not self.instead.goes(inner):
                raise MirrorError(
                    f"the folder {path} is in the way of a file and not empty: {inner}",
                    path=path,
                    hint="move what is in it away; syncd did not write it",
                )

    def _one(
        self, source: int, target: int, path: str, found: os.stat_result, seen: set[str]
    ) -> int:
        seen.add(path)
        known, name, looks = (
            self.files.get(path),
            posixpath.basename(path),
            self.instead.looks.get(path),
        )
        if known is not None and known.before == stat_of(found) and path not in self._racy:
            return 0
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
            raise MirrorError(
                f"{path} is no file, folder or link; a tree with it can't be published anew",
                path=path,
                hint="remove it",
            )
        try:
            if known is not None:
                os.unlink(name, dir_fd=target)
            began_ns = self.clock.now_ns()
            if stat.S_ISLNK(found.st_mode):
                carried = _copy_link(source, target, name, looks)
            else:
                carried = _copy_file(source, target, path, looks, self.lost)
            self._keep(path, began_ns, carried)
        except FileNotFoundError:  # it has just gone
            self.files.pop(path, None)
        except OSError as error:
            raise mirror_error("carry over", path, error) from error
        return 1

    def _keep(self, path: str, began_ns: int, carried: CopiedFile) -> None:
        """Note what was copied, and whether the copy may be of other bytes than its stat says."""
        self._racy.discard(path)
        if is_racy(carried.before, began_ns):
            self._racy.add(path)
        racy = path in self._racy or is_racy_after(carried.after, carried.before.mtime_ns)
        self.files[path] = replace(carried, racy=racy)

    def _remove_vanished(self, path: str) -> None:
        """What is gone from the source meanwhile is gone from the target; a folder only when nothing was written to it."""
        names = posixpath.dirname(path[len(self.public) :]).strip("/").split("/")
        with _opened_below(self.target, [name for name in names if name]) as folder:
            if self.files.pop(path, None) is not None:
                os.unlink(posixpath.basename(path), dir_fd=folder)
                return
            self._folders.discard(path)
            try:
                os.rmdir(posixpath.basename(path), dir_fd=folder)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def copied_sizes(folder: int, public: str, instead: Changes) -> Iterator[int]:
    """The bytes of every file and link that would be carried."""
    for step in walk(folder, public):
        if not step.is_folder and not instead.goes(f"{public}/{step.path}"):
            yield step.found.st_size if stat.S_ISREG(step.found.st_mode) else 0


def shares_blocks(folder: int) -> bool:
    """Can two files of this folder's file system hold the same blocks until one is written to? Asked by trying, with a file that has no name."""
    try:
        one = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError:
        return False  # no such files here: no sharing either, as far as we know
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


def copy_owner(found: os.stat_result, looks: WantedFile | None) -> tuple[int, int]:
    """Who a copy belongs to: whoever the original does, but for what is asked anew."""
    if looks is None:
        return found.st_uid, found.st_gid
    return (
        found.st_uid if looks.uid is None else looks.uid,
        found.st_gid if looks.gid is None else looks.gid,
    )


def _sync_if_errors_hidden(descriptor: int) -> None:
    """It is on disk where the sync of everything at the end would not tell what was lost (filesystem_sync.py)."""
    if hides_write_errors(descriptor):
        os.fsync(descriptor)


def _set_directory_metadata(
    old: int,
    new: int,
    path: str,
    found: os.stat_result,
    looks: WantedFile | None,
    lost: LostAttributes,
) -> None:
    """The owner, mode and attributes of the old folder, or the wanted owner and permissions."""
    mode = stat.S_IMODE(found.st_mode)
    mode = mode if looks is None else looks.mode | mode & ~PERMISSIONS
    if os.geteuid() == 0 or looks is not None:
        os.fchown(new, *copy_owner(found, looks))
    set_mode(f"/proc/self/fd/{new}", mode)
    copy_attributes(old, new, mode, path, lost)
    check_folder(path, mode, os.fstat(new), *_asked_owner(looks))


def _asked_owner(looks: WantedFile | None) -> tuple[int | None, int | None]:
    return (None, None) if looks is None else (looks.uid, looks.gid)


def _copy_file(
    source: int, target: int, path: str, looks: WantedFile | None, lost: LostAttributes
) -> CopiedFile:
    """The file with its owner, mode, times and attributes, or with the wanted mode and owner."""
    name = posixpath.basename(path)
    reading = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source
    )
    try:
        found = os.fstat(reading)
        writing = os.open(
            name,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=target,
        )
        try:
            copy_sparse(reading, writing, found.st_size)
            if os.geteuid() == 0 or looks is not None:
                os.fchown(writing, *copy_owner(found, looks))
            mode = looks.mode if looks is not None else stat.S_IMODE(found.st_mode)
            os.fchmod(writing, mode)
            copy_attributes(reading, writing, mode, path, lost)
            check_file(
                path, WantedFile("", mode, Kind.FILE, *_asked_owner(looks)), os.fstat(writing)
            )
            os.utime(writing, ns=(found.st_atime_ns, found.st_mtime_ns))
            _sync_if_errors_hidden(writing)
            return CopiedFile(stat_of(found), stat_of(os.fstat(writing)))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_link(source: int, target: int, name: str, looks: WantedFile | None) -> CopiedFile:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    if os.geteuid() == 0 or looks is not None:
        os.chown(name, *copy_owner(found, looks), dir_fd=target, follow_symlinks=False)
    stamps = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=stamps, dir_fd=target, follow_symlinks=False)
    return CopiedFile(stat_of(found), stat_of(os.stat(name, dir_fd=target, follow_symlinks=False)))


def _lstat(folder: int, name: str) -> os.stat_result | None:
    """What `name` is; None where it goes while we look."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def list_names(folder: int) -> list[str]:
    """What the open folder holds. Listed by a descriptor of its own: listing one twice rests on going back to its start, which nobody checks."""
    with _opened_subdirectory(folder, ".") as anew:
        return os.listdir(anew)


@contextmanager
def _opened_subdirectory(folder: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_below(folder: int, names: Sequence[str]) -> Iterator[int]:
    current = os.dup(folder)
    try:
        for name in names:
            below = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _all_parents(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(folder for path in paths for folder in with_parents(posixpath.dirname(path)))
