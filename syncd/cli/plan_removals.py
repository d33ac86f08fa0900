"""Groups many removals by folder, so that a plan that removes thousands of files fits a screen."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence

from syncd.models import ActionKind, Change, Job

MAX_LISTED = 20  # removals of one job that are listed one by one


def split_removals(
    job: Job, changes: Sequence[Change], list_all: bool
) -> tuple[list[Change], list[tuple[str, int]]]:
    """Return the changes to list, and the folders whose removals are only counted.

    A folder is the one just below a listed `to`, such as `/srv/files/archive/`; of other paths, the
    folder that holds the file. Few removals are all listed.
    """
    removals = [change for change in changes if change.action is ActionKind.REMOVE]
    if list_all or len(removals) <= MAX_LISTED:
        return list(changes), []
    counted = Counter(_folder_of(job, change.path) for change in removals)
    shown = [change for change in changes if change.action is not ActionKind.REMOVE]
    return shown, sorted(counted.items())


def _folder_of(job: Job, path: str) -> str:
    for rule in job.paths:
        top = rule.to if rule.to.endswith("/") else f"{rule.to}/"
        if path.startswith(top):
            first, *below = path[len(top) :].split("/")
            return f"{top}{first}/" if below else top
    return posixpath.join(posixpath.dirname(path), "")
