"""Find what is at each destination now.

Every doubt is kept apart from absence: only a plain "no such file" counts as nothing. Bytes are
read only where lstat(2) differs from what the ledger recorded. Equal device, inode, size, mtime and
ctime mean equal bytes: ctime can't be set, the record is made after the last write of ours to the
file, and a stat that a later write could leave as it is, because stamps move in steps, is recorded
smudged (racy.py).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from syncd.deadline import no_limit
from syncd.errors import MirrorError, UnsafePathError
from syncd.git_objects import blob_hasher, blob_id
from syncd.mirror.dirfd import DirectoryMissingError, InTheWayError, open_directory
from syncd.mirror.free_space import nearest_existing_dir
from syncd.mirror.racy import is_racy
from syncd.models import Kind, LedgerRow, LocalFile, Stat
from syncd.ports import SMALL_FILE_BYTES, UNKNOWN_SIZE, Target

CHUNK_BYTES = 1 << 20
MAX_READ_ATTEMPTS = (
    3  # a file that changes while it is read is read this often before it is called busy
)


def scan(
    targets: Mapping[str, Target],
    now_ns: Callable[[], int],
    devices: dict[str, int] | None = None,
    check: Callable[[], None] = no_limit,
) -> dict[str, LocalFile | None]:
    """Return what is at each destination; None where nothing is. One pass per directory.

    `devices` receives the file system of each directory, or that of its nearest existing parent.
    `now_ns` is the clock that files are stamped with. `check` is called before each directory and
    each chunk that is read. Raises OSError.
    """
    devices = {} if devices is None else devices
    found: dict[str, LocalFile | None] = {}
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, target in targets.items():
        folders[target.root, path[: path.rfind("/")] or "/"].append(path)
    for (root, parent), paths in folders.items():
        check()
        try:
            folder = open_directory(root, parent)
        except DirectoryMissingError:
            devices[parent] = os.stat(nearest_existing_dir(parent)).st_dev
            found.update(dict.fromkeys(paths))
            continue
        except MirrorError as error:
            is_ours = _is_replaced_by_directory(error, root, parent, targets)
            nothing = None if is_ours else _unknown(error.message, error.hint)
            found.update(dict.fromkeys(paths, nothing))
            continue
        try:
            devices[parent] = device = os.fstat(folder).st_dev
            for path in paths:
                name, target = path[path.rfind("/") + 1 :], targets[path]
                if target.is_directory:
                    found[path] = scan_directory(folder, name, path, device)
                else:
                    found[path] = scan_entry(
                        folder, name, path, target.recorded, now_ns, target, check
                    )
        finally:
            os.close(folder)
    return found


def _is_replaced_by_directory(
    error: MirrorError, root: str, parent: str, targets: Mapping[str, Target]
) -> bool:
    """Return whether a file or link of ours is where a directory will be.

    It is not in the way: below it there is nothing yet.
    """
    return isinstance(error, (InTheWayError, UnsafePathError)) and any(
        other in targets and targets[other].recorded is not None for other in _above(parent, root)
    )


def _above(path: str, root: str) -> Iterator[str]:
    while len(path) > len(root):
        yield path
        path = posixpath.dirname(path)


def _unknown(problem: str, hint: str | None = None) -> LocalFile:
    return LocalFile(Kind.OTHER, None, 0, 0, 0, Stat(0, 0, 0, 0, 0), problem, hint)


def scan_entry(
    folder: int,
    name: str,
    path: str,
    recorded: LedgerRow | None,
    now_ns: Callable[[], int],
    target: Target | None = None,
    check: Callable[[], None] = no_limit,
) -> LocalFile | None:
    """Return what `name` in the open `folder` is, with the git id of its bytes.

    It never blocks on a FIFO and never follows a link. With a `target`, a large file whose size
    can't be right is not read. Seven parameters: thousands of entries are scanned in one tick, and
    an object for each would cost more than the calls.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unknown(f"the attributes of {path} can't be read: {error.strerror}")
    signature = stat_of(found)
    if (
        recorded is not None
        and recorded.stat == signature
        and stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFLNK)
    ):
        # made of the existing record: thousands are scanned in one tick
        return LocalFile(
            recorded.entry.kind,
            recorded.entry.blob,
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            recorded.stat,
        )
    if stat.S_ISREG(found.st_mode):
        if (
            target is not None
            and found.st_size > SMALL_FILE_BYTES
            and not _may_be_right(found.st_size, target)
        ):
            return _local(found, Kind.FILE, None)
        return _hashed(folder, name, path, found, now_ns, check)
    if stat.S_ISLNK(found.st_mode):
        return _link(folder, name, path, now_ns)
    return _local(found, Kind.DIRECTORY if stat.S_ISDIR(found.st_mode) else Kind.OTHER, None)


def _may_be_right(size: int, target: Target) -> bool:
    """Return whether a file of this size may be what is wanted, or what the ledger says."""
    row = target.recorded
    if target.size is not None and target.size in (UNKNOWN_SIZE, size):
        return True
    if row is None:
        return False
    if row.stat is not None and row.stat.size >= 0 and row.wanted is None:
        return row.stat.size == size or row.entry.size == size
    return any(entry.size is None or entry.size == size for entry in (row.entry, row.upstream))


def scan_directory(folder: int, name: str, path: str, device: int) -> LocalFile | None:
    """Return which directory `name` in the open `folder` is, with its mode and owner.

    `device` is the file system of `folder`. None where there is none that syncd could have made:
    nothing, a link, a file, the top of another file system. Times and size are left out: they
    change with what is made and removed in it.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unknown(f"the attributes of {path} can't be read: {error.strerror}")
    if not stat.S_ISDIR(found.st_mode) or found.st_dev != device:
        return None
    return LocalFile(
        Kind.DIRECTORY,
        None,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        Stat(found.st_dev, found.st_ino, 0, 0, 0),
    )


def _link(folder: int, name: str, path: str, now_ns: Callable[[], int]) -> LocalFile | None:
    now = now_ns()  # before lstat: a link that is replaced after it has another stat, or a racy one
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        blob = blob_id(os.fsencode(os.readlink(name, dir_fd=folder)))
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unknown(f"the link {path} can't be read: {error.strerror}")
    return _read_at(found, Kind.LINK, blob, now)


def stat_of(found: os.stat_result) -> Stat:
    """Return the part of a stat that shows a change of the bytes."""
    return Stat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _local(
    found: os.stat_result, kind: Kind, blob: str | None, problem: str | None = None
) -> LocalFile:
    return LocalFile(
        kind, blob, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, stat_of(found), problem
    )


def _read_at(found: os.stat_result, kind: Kind, blob: str, now_ns: int) -> LocalFile:
    """Return what was read after `now_ns`."""
    signature = stat_of(found)
    mode = stat.S_IMODE(found.st_mode)
    racy = is_racy(signature, now_ns)
    return LocalFile(kind, blob, mode, found.st_uid, found.st_gid, signature, racy=racy)


def _hashed(
    folder: int,
    name: str,
    path: str,
    found: os.stat_result,
    now_ns: Callable[[], int],
    check: Callable[[], None],
) -> LocalFile | None:
    """Read the file and return it with its id; the six parameters are those of `scan_entry`."""
    for _ in range(MAX_READ_ATTEMPTS):
        now = now_ns()  # before the first byte: an edit while they are read counts as a later one
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            return _local(found, Kind.FILE, None, f"{path} can't be read: {error.strerror}")
        try:
            before = os.fstat(descriptor)
            blob, size = hash_file(descriptor, before.st_size, check)
            after = os.fstat(descriptor)
        except OSError as error:
            return _local(found, Kind.FILE, None, f"{path} can't be read: {error.strerror}")
        finally:
            os.close(descriptor)
        if stat_of(before) == stat_of(after) and size == after.st_size:
            return _read_at(after, Kind.FILE, blob, now)
    return _local(found, Kind.FILE, None, f"{path} changes faster than it can be read")


def hash_file(descriptor: int, size: int, check: Callable[[], None] = no_limit) -> tuple[str, int]:
    """Return the git blob id of an open file of `size` bytes, and how many were read."""
    hasher, count = blob_hasher(size), 0
    while count <= size and (
        chunk := os.read(descriptor, CHUNK_BYTES)
    ):  # one that grows meanwhile has no end
        check()
        hasher.update(chunk)
        count += len(chunk)
    return hasher.hexdigest(), count
