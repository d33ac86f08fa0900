"""Creates the store's file privately on a local disk, and finds the processes that use it.

Never opens a database file that exists: closing any descriptor of it would release the locks that
SQLite holds on it in this process. Source: sqlite.org "How To Corrupt An SQLite Database File",
2.2.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from syncd.errors import StoreError
from syncd.file_lock import acquire_polling, release
from syncd.store.access import GROUP_READ_BITS, set_private_mode, share_with_group

NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "lustre",
    "ncpfs",
}
MOUNTS = Path("/proc/self/mountinfo")
LOCKS = Path("/proc/locks")
POLL_INTERVAL_SECONDS = 0.05
OWNER_HINT = "syncd must own its state folder and be able to write there"


def open_nofollow(path: str | Path, flags: int) -> int:
    """Open a file of the state, never through a link; a new file is private. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def make_private(file: Path) -> None:
    """Create the file if needed, readable only by its owner and, with `state_group`, by that group.

    SQLite gives its journal the same mode. Raises StoreError.
    """
    try:
        os.makedirs(file.parent, mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.close(
                os.open(
                    file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
            )
        found = os.lstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"the store {file} is not a file",
                id="store/not-a-file",
                hint="move it away; syncd creates a new one, and adopts files that are equal",
            )
        if os.stat(file.parent).st_mode & GROUP_READ_BITS:
            share_with_group(file, file.parent)
        elif stat.S_IMODE(found.st_mode) != 0o600:
            set_private_mode(file, 0o600)
    except OSError as error:
        raise StoreError(
            f"the store {file} can't be opened: {error.strerror}",
            id="store/cannot-open",
            hint=OWNER_HINT,
        ) from error


def file_identity(file: Path) -> tuple[int, int] | None:
    """Return device and inode of the file; None where there is no file.

    Raises StoreError when the disk fails.
    """
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"the store {file} can't be read: {error.strerror}",
            id="store/cannot-stat",
            hint="check the disk of the state folder",
        ) from error
    return found.st_dev, found.st_ino


@contextmanager
def opening_lock(file: Path, seconds: float) -> Iterator[None]:
    """Hold the lock that making, migrating and setting aside the store need, during the block.

    Raises StoreError when it is still taken after `seconds`.
    """
    ends, pause = time.monotonic() + seconds, threading.Event()

    def wait() -> None:
        if time.monotonic() >= ends:
            raise StoreError(
                f"another syncd has been preparing the store {file} for more than {seconds:g} s",
                id="store/busy-opening",
                hint="try again; it may be migrating",
            )
        pause.wait(POLL_INTERVAL_SECONDS)

    try:
        os.makedirs(file.parent, mode=0o700, exist_ok=True)
        descriptor = acquire_polling(f"{file}.lock", wait)
    except OSError as error:
        raise StoreError(
            f"the store {file} can't be locked: {error.strerror}",
            id="store/lock-failed",
            hint=OWNER_HINT,
        ) from error
    try:
        yield
    finally:
        release(descriptor)


def lock_holders(file: Path) -> list[str]:
    """Return who may write to the store now, as `name (pid N)`; empty where the kernel does not
    list it.
    """
    pids = {
        pid
        for suffix in ("", "-shm")
        for kind, pid in locks_on(Path(f"{file}{suffix}"))
        if kind == "WRITE"
    }
    return [f"{_name_of(pid)} (pid {pid})" for pid in sorted(pids - {0, os.getpid()})]


def is_open(file: Path) -> bool:
    """Return whether any process has a connection to this file: in WAL mode each holds a shared
    lock on it.
    """
    return bool(locks_on(file))


def locks_on(file: Path) -> list[tuple[str, int]]:
    """Return kind (READ or WRITE) and pid of each lock on the file.

    Source: proc_locks(5): number, kind, mode, access, pid, MAJOR:MINOR:INODE.
    """
    found = file_identity(file)
    if found is None:
        return []
    return [(kind, pid) for inode, kind, pid in _locks() if inode == str(found[1])]


def locked_files(files: Iterable[Path]) -> list[Path]:
    """Return those of the files that a process has a lock on, from one reading of the list."""
    inodes = {inode for inode, _, _ in _locks()}
    identities = ((file, file_identity(file)) for file in files)
    return [file for file, found in identities if found is not None and str(found[1]) in inodes]


def _locks() -> list[tuple[str, str, int]]:
    """Return inode, kind and pid of each lock that is held."""
    try:
        lines = [line.split() for line in LOCKS.read_text().splitlines() if "->" not in line]
    except OSError:
        return []
    return [
        (line[5].rpartition(":")[2], line[3], int(line[4]))
        for line in lines
        if len(line) > 5 and line[4].isdigit()
    ]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"


def refuse_network_filesystem(file: Path) -> None:
    """Raise StoreError where the store is on a file system whose locks SQLite cannot rely on.

    Source: sqlite.org "How To Corrupt An SQLite Database File", 2.1.
    """
    kind = _file_system_of(os.path.realpath(file))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"the state folder {file.parent} is on a network file system ({kind}), "
            "where a SQLite store gets damaged",
            id="store/network-file-system",
            hint="set state: to a folder on a local disk",
        )


def _file_system_of(path: str) -> str:
    """Return the type of the file system at `path`; "" for unknown. Source:
    proc_pid_mountinfo(5).
    """
    mount_point, kind = "", ""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = _unescaped(left.split()[4])
        is_above = path == mount or path.startswith(mount.rstrip("/") + "/")
        if is_above and len(mount) >= len(mount_point):
            mount_point, kind = mount, right.split()[0]
    return kind


def _unescaped(mount: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mount = mount.replace(code, letter)
    return mount
