"""What a restore from the trash may leave on disk where it dies, so that the next one removes it.

A run has its intent in the store for that. A restore is no run: what it writes is not syncd's, and
the ledger must not take it for that. So it has a small file of its own, in the trash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec import MsgspecError, convert

from syncd import file_lock
from syncd.folder_sync import sync_folder
from syncd.mirror.cleanup import remove_empty_directories, remove_temp_files
from syncd.private_file import replace_private_file

JOURNAL, LOCK = "restoring.json", "restoring.lock"
UNFINISHED = f".{JOURNAL}.*"  # a journal that is being written


class Attempt(NamedTuple):
    """One restore: the id that its temporary file carries, and where it writes.

    `new_folders` did not exist before it.
    """

    intent: str
    root: str
    folder: str
    new_folders: tuple[str, ...]


@contextmanager
def one_restore(directory: Path) -> Iterator[None]:
    """Let one process at a time restore from the trash in `directory`. Waits. Raises OSError."""
    lock = file_lock.acquire(directory / LOCK, wait=True)
    try:
        _remove(directory)
        yield
    finally:
        file_lock.release(lock)


@contextmanager
def journaled(directory: Path, attempt: Attempt) -> Iterator[None]:
    """Record the attempt while the block runs; when it fails, remove what it left.

    Raises OSError, MirrorError.
    """
    replace_private_file(directory / JOURNAL, json.dumps(attempt).encode())
    _sync(directory)  # before the first temporary file: a power cut must not leave that one alone
    try:
        yield
    except BaseException:  # Ctrl-C too
        _remove(directory)
        raise
    (directory / JOURNAL).unlink()


def has_leftovers(directory: Path) -> bool:
    """Return whether a restore is going on, or has died."""
    return (directory / JOURNAL).exists() or any(directory.glob(UNFINISHED))


def remove_leftovers(directory: Path) -> None:
    """Remove what a restore that died has left; nothing while one is going on.

    Raises MirrorError, OSError.
    """
    if not has_leftovers(directory):
        return
    try:
        lock = file_lock.acquire(directory / LOCK)
    except BlockingIOError:
        return
    try:
        _remove(directory)
    finally:
        file_lock.release(lock)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_folder(descriptor)
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    for unfinished in directory.glob(UNFINISHED):
        unfinished.unlink()
    try:
        left = convert(json.loads((directory / JOURNAL).read_bytes()), Attempt)
    except FileNotFoundError:
        return
    except (ValueError, MsgspecError):  # damaged: nothing says where to look
        (directory / JOURNAL).unlink()
        return
    remove_temp_files(left.intent, [(left.root, left.folder)])
    remove_empty_directories((left.root, one) for one in left.new_folders)
    (directory / JOURNAL).unlink()
