"""Counts many changes by folder, so that a plan or a run of thousands of files fits a screen."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence

from syncd.models import ActionKind, Change, Job

MAX_LISTED = 20  # changes of one kind that are listed one by one


def split_removals(
    job: Job, changes: Sequence[Change], list_all: bool
) -> tuple[list[Change], list[tuple[str, int]]]:
    """Return the changes to list, and the folders whose removals are only counted.

    Few removals are all listed.
    """
    removals = [change for change in changes if change.action is ActionKind.REMOVE]
    if list_all or len(removals) <= MAX_LISTED:
        return list(changes), []
    shown = [change for change in changes if change.action is not ActionKind.REMOVE]
    return shown, count_by_folder(job, (change.path for change in removals))


def count_by_folder(job: Job | None, paths: Iterable[str]) -> list[tuple[str, int]]:
    """Return each folder with how many of the paths are in it.

    A folder is the one just below a listed `to`, such as `/srv/files/archive/`; of other paths, the
    folder that holds the file.
    """
    return sorted(Counter(_folder_of(job, path) for path in paths).items())


def _folder_of(job: Job | None, path: str) -> str:
    for rule in job.paths if job is not None else ():
        top = rule.to if rule.to.endswith("/") else f"{rule.to}/"
        if path.startswith(top):
            first, *below = path[len(top) :].split("/")
            return f"{top}{first}/" if below else top
    return posixpath.join(posixpath.dirname(path), "")
