"""Where the store's file lives: made privately, on a disk whose locks can be trusted, and who holds it when it is busy.

Never opens a database file that stands already: closing any descriptor of it would let go of the locks that SQLite holds on it in
this process. Source: sqlite.org "How To Corrupt An SQLite Database File", 2.2.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from syncd.errors import StoreError
from syncd.store.access import GROUP_MAY_READ, set_private_mode, share

NETWORK = {
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
POLL_SECONDS = 0.05
HINT_OWNER = "syncd must own its state folder and be able to write there"


def open_nofollow(path: str | Path, flags: int) -> int:
    """Opens a file of the state, never through a link; a new one is private. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def sync_folder(folder: str | Path) -> None:
    """The names in a folder of the state are on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(file: Path) -> None:
    """The file exists and only its owner (with `state_group`, that group too) can read it; SQLite gives its journal the same mode. Raises StoreError."""
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
                hint="move it away; syncd begins a new one, and equal files are adopted",
            )
        if os.stat(file.parent).st_mode & GROUP_MAY_READ:
            share(file, file.parent)
        elif stat.S_IMODE(found.st_mode) != 0o600:
            set_private_mode(file, 0o600)
    except OSError as error:
        raise StoreError(
            f"can't open the store {file}: {error.strerror}", hint=HINT_OWNER
        ) from error


def identity(file: Path) -> tuple[int, int] | None:
    """Which file stands there now; None for none. Raises StoreError when the disk can't be asked."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"can't look at the store {file}: {error.strerror}",
            hint="check the disk of the state folder",
        ) from error
    return found.st_dev, found.st_ino


@contextmanager
def opening_lock(file: Path, seconds: float) -> Iterator[None]:
    """Nobody else makes, migrates or sets aside this store while the block runs. Raises StoreError after `seconds` of waiting.

    The kernel lets go of the lock when its holder dies.
    """
    try:
        os.makedirs(file.parent, mode=0o700, exist_ok=True)
        descriptor = os.open(
            f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as error:
        raise StoreError(
            f"can't open the store {file}: {error.strerror}", hint=HINT_OWNER
        ) from error
    try:
        _wait_for(descriptor, file, seconds)
        yield
    finally:
        with suppress(OSError):  # the lock is let go whatever close(2) says of the file
            os.close(descriptor)


def _wait_for(descriptor: int, file: Path, seconds: float) -> None:
    ends, pause = time.monotonic() + seconds, threading.Event()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= ends:
                raise StoreError(
                    f"the store {file} is being made ready by another syncd for more than {seconds:g} s",
                    hint="try again; it may be migrating",
                ) from error
        except OSError as error:
            raise StoreError(f"can't lock the store {file}: {error.strerror}") from error
        pause.wait(POLL_SECONDS)


def holders(file: Path) -> list[str]:
    """Who may write to the store now, as `name (pid N)`; empty where the kernel doesn't say."""
    pids = {
        pid
        for suffix in ("", "-shm")
        for kind, pid in locks_on(Path(f"{file}{suffix}"))
        if kind == "WRITE"
    }
    return [f"{_name_of(pid)} (pid {pid})" for pid in sorted(pids - {0, os.getpid()})]


def is_open(file: Path) -> bool:
    """Has anybody a connection to this very file? Every one in WAL mode holds a shared lock on it."""
    return bool(locks_on(file))


def locks_on(file: Path) -> list[tuple[str, int]]:
    """(READ or WRITE, pid) of each lock on the file. Source: proc_locks(5): number, kind, mode, access, pid, MAJOR:MINOR:INODE."""
    found = identity(file)
    if found is None:
        return []
    try:
        lines = [line.split() for line in LOCKS.read_text().splitlines() if "->" not in line]
    except OSError:
        return []
    return [
        (line[3], int(line[4]))
        for line in lines
        if len(line) > 5 and line[5].rpartition(":")[2] == str(found[1]) and line[4].isdigit()
    ]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"


def refuse_network_filesystem(file: Path) -> None:
    """Raises StoreError on a file system whose locks SQLite can't trust. Source: sqlite.org "How To Corrupt", 2.1; proc_pid_mountinfo(5)."""
    best, kind = "", ""
    target = os.path.realpath(file)
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4]
        for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            mount = mount.replace(code, letter)
        if (target == mount or target.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(
            best
        ):
            best, kind = mount, right.split()[0]
    if kind in NETWORK:
        raise StoreError(
            f"the state folder {file.parent} is on a network file system ({kind}), where a SQLite store gets damaged",
            hint="set state: to a folder on a local disk",
        )
