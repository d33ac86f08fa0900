"""Does the disk keep names apart that some file systems take for one? By looking, and where that does not tell, by a trial.

A trial makes the very names in a private folder of its own beside where they will stand: how names
are compared differs between file systems, and between folders of one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncd.colliding_names import OpenFolder, are_distinct
from syncd.errors import MirrorError
from syncd.mirror.cleanup import PREFIX, remove_trial
from syncd.mirror.dirfd import NOT_THERE, OPEN_BELOW, open_root, step_down, trouble
from syncd.mirror.free_space import existing
from syncd.mirror.paths import below
from syncd.mirror.syscalls import sync_folder


def look_apart(folder: str, names: Sequence[str], root: str) -> bool | None:
    """What looking at `folder`, or the deepest one above it that stands, says; None where it does not tell."""
    try:
        with _deepest(folder, root) as (place, _):
            return are_distinct(OpenFolder(place), names)
    except (OSError, MirrorError, *NOT_THERE):
        return None  # nothing is known of what can't be looked at


def try_apart(folder: str, names: Sequence[str], root: str, intent: str) -> bool:
    """What making the names in a folder of our own, in `folder` or the deepest one above it, says. It is gone then.

    Raises MirrorError; what a crash leaves is swept with the intent.
    """
    with _deepest(folder, root) as (place, path):
        name = f"{PREFIX}{intent}-{secrets.token_hex(8)}"
        try:
            os.mkdir(name, 0o700, dir_fd=place)
            try:
                return _made_apart(place, name, names)
            finally:
                remove_trial(place, name)
                sync_folder(
                    place
                )  # else a power cut brings it back when the intent that names it is gone
        except OSError as error:
            raise trouble("try how names are told apart in", path, error) from error


def _made_apart(place: int, trial: str, names: Sequence[str]) -> bool:
    inside = os.open(trial, OPEN_BELOW, dir_fd=place)
    try:
        for name in names:
            try:
                os.close(
                    os.open(
                        name,
                        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                        0o600,
                        dir_fd=inside,
                    )
                )
            except FileExistsError:
                return False
        return len(os.listdir(inside)) == len(names)
    finally:
        os.close(inside)


@contextmanager
def _deepest(folder: str, root: str) -> Iterator[tuple[int, str]]:
    """The deepest folder on the way to `folder` that stands, open, and its path; below `root` through no link."""
    inside = folder.startswith(root.rstrip("/") + "/")
    start = root if inside else folder
    path = existing(start)
    current = open_root(path)
    try:
        for name in below(folder, root) if inside and path == start else ():
            try:
                deeper = step_down(current, name, f"{path.rstrip('/')}/{name}")
            except NOT_THERE:
                break  # what is in the way there is refused, or leaves, before anything is written
            os.close(current)
            current, path = deeper, f"{path.rstrip('/')}/{name}"
        yield current, path
    finally:
        os.close(current)
