"""Allows one process per job, and one daemon per state folder, by file locks (file_lock.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from syncd.errors import LockedError, StoreError
from syncd.file_lock import acquire, release
from syncd.store.access import LOCKS, try_share_with_group
from syncd.store.location import LOCKS as LOCKS_OF_KERNEL
from syncd.store.location import locked_files, locks_on
from syncd.unit_name import service_in_use

MAX_NAME = 100


def lock_file(state_dir: Path, job: str) -> Path:
    """Return the file that is locked while the job runs."""
    return state_dir / LOCKS / f"{safe_name(job)}.lock"


def safe_name(name: str) -> str:
    """Return a file name for a configured name: the name itself where it is a plain one, else its
    SHA-256.
    """
    letters = name.replace("-", "").replace("_", "").replace(".", "")
    if letters.isalnum() and len(name) < MAX_NAME:
        return name
    return sha256(name.encode()).hexdigest()


def is_held(state_dir: Path, job: str) -> bool:
    """Return whether the job runs now.

    The kernel's list of locks is read: acquiring the lock to find out would refuse a run that
    begins at that moment.
    """
    return _is_locked(lock_file(state_dir, job))


def running_jobs(state_dir: Path, jobs: Iterable[str]) -> frozenset[str]:
    """Return those of the jobs that run now; with /proc, from one reading of the kernel's list."""
    files = {lock_file(state_dir, job): job for job in jobs}
    if LOCKS_OF_KERNEL.exists():
        return frozenset(files[file] for file in locked_files(files))
    return frozenset(job for file, job in files.items() if _is_locked(file))


def daemon_lock_file(state_dir: Path) -> Path:
    """Return the file that is locked while a daemon uses the state folder."""
    return state_dir / "daemon.lock"


@contextmanager
def daemon_lock(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's daemon lock during the block.

    Raises LockedError at once when another daemon has it.
    """

    def refused(pid: int | None) -> LockedError:
        return LockedError(
            f"another syncd{_holder(pid)} runs already",
            id="locked/daemon",
            hint=f"it serves {state_dir}: check it with `systemctl status {service_in_use(pid)}`, "
            "or stop it first",
        )

    with _held(daemon_lock_file(state_dir), "the daemon of this state folder", refused):
        yield


def _holder(pid: int | None) -> str:
    return "" if pid is None else f" (pid {pid})"


def daemon_runs(state_dir: Path) -> bool:
    """Return whether a daemon uses the state folder now."""
    return _is_locked(daemon_lock_file(state_dir))


def _is_locked(file: Path) -> bool:
    """Return whether a process has the lock.

    Without /proc it is tried for an instant, shared, which a holder never allows.
    """
    if LOCKS_OF_KERNEL.exists():
        return bool(locks_on(file))
    try:
        release(acquire(file, shared=True, create=False))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def job_lock(state_dir: Path, job: str) -> Iterator[None]:
    """Hold the job's lock during the block.

    Raises LockedError at once, with the holder's pid, when it is taken.
    """

    def refused(pid: int | None) -> LockedError:
        return LockedError(
            f"another syncd{_holder(pid)} is at work on {job}",
            id="locked/job",
            hint="wait until it has finished, and try again",
        )

    with _held(lock_file(state_dir, job), f"the job {job}", refused):
        yield


@contextmanager
def command_lock(state_dir: Path, command: str) -> Iterator[None]:
    """Hold the lock of a command of `on_change` during the block; `command` is its digest.

    Raises LockedError at once when it is running elsewhere.
    """

    def refused(pid: int | None) -> LockedError:
        return LockedError(f"another syncd{_holder(pid)} is running on_change", id="locked/job")

    file = state_dir / LOCKS / f"on_change-{command}.turn"  # no job's lock: those end in .lock
    with _held(file, "on_change", refused):
        yield


@contextmanager
def every_lock(state_dir: Path) -> Iterator[None]:
    """Hold the daemon's lock and that of each job that has run, during the block.

    Raises LockedError at once when a daemon or a run has one of them.
    """
    with ExitStack() as held:
        held.enter_context(daemon_lock(state_dir))
        for file in sorted((state_dir / LOCKS).glob("*.lock")):
            held.enter_context(job_lock(state_dir, file.stem))
        yield


@contextmanager
def _held(file: Path, subject: str, refused: Callable[[int | None], LockedError]) -> Iterator[None]:
    """Hold the file's lock during the block; `refused` makes the error of a lock that the process
    of this id has.
    """
    try:
        os.makedirs(file.parent, mode=0o700, exist_ok=True)
        if file.parent.name == LOCKS:
            try_share_with_group(file.parent, file.parent.parent)
        descriptor = acquire(file)
    except BlockingIOError as error:
        holder = next((pid for _, pid in locks_on(file) if pid > 0), None)
        raise refused(holder) from error
    except OSError as error:
        raise StoreError(
            f"{subject} can't be locked: {error.strerror}",
            id="store/lock-failed",
            hint="the state folder must be on a local disk and writable by the user who runs syncd",
        ) from error
    try:
        yield
    finally:
        release(descriptor)
