"""One process per job, by flock: the kernel lets go when the process dies, so there is no stale lock and nothing to wait for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from syncd.errors import LockedError, StoreError
from syncd.store.access import LOCKS, try_to_share
from syncd.store.location import locks_on


def lock_file(state_dir: Path, job: str) -> Path:
    """The file whose lock the job's holder has."""
    return state_dir / LOCKS / f"{safe_name(job)}.lock"


def safe_name(name: str) -> str:
    """A file name for anything that the configuration may call something."""
    return (
        name
        if name.replace("-", "").replace("_", "").replace(".", "").isalnum() and len(name) < 100
        else sha256(name.encode()).hexdigest()
    )


def is_held(state_dir: Path, job: str) -> bool:
    """Is a run of the job under way? Asked of the kernel: taking the lock to find out would refuse a run that begins just then."""
    return bool(locks_on(lock_file(state_dir, job)))


def daemon_lock_file(state_dir: Path) -> Path:
    return state_dir / "daemon.lock"


@contextmanager
def daemon_lock(state_dir: Path) -> Iterator[None]:
    """This process is the only daemon on the state folder while the block runs. Raises LockedError at once, naming the other."""
    with _held(
        daemon_lock_file(state_dir),
        "the daemon of this state folder",
        "runs already",
        f"it serves {state_dir}; look at it with `systemctl status syncd`, or end it first",
    ):
        yield


def daemon_runs(state_dir: Path) -> bool:
    """Is a daemon at work on this state folder?"""
    return bool(locks_on(daemon_lock_file(state_dir)))


@contextmanager
def job_lock(state_dir: Path, job: str) -> Iterator[None]:
    """The job is ours alone while the block runs. Raises LockedError at once, naming the holder's pid, when another has it."""
    with _held(
        lock_file(state_dir, job),
        f"the job {job}",
        f"is at work on {job}",
        "it will be done soon; try again then",
    ):
        yield


@contextmanager
def _held(file: Path, what: str, doing: str, hint: str) -> Iterator[None]:
    try:
        os.makedirs(file.parent, mode=0o700, exist_ok=True)
        if file.parent.name == LOCKS:
            try_to_share(file.parent, file.parent.parent)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(
            f"can't lock {what}: {error.strerror}",
            hint="the state folder must be writable by the user who runs syncd",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = next((f" (pid {pid})" for _, pid in locks_on(file) if pid > 0), "")
            raise LockedError(f"another syncd{holder} {doing}", hint=hint) from error
        except OSError as error:
            raise StoreError(f"can't lock {what}: {error.strerror}") from error
        yield
    finally:
        with suppress(OSError):  # the lock is let go whatever close(2) says of the file
            os.close(descriptor)
