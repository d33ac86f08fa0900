"""Order the actions of a plan as the writer takes them, and group them by directory.

Pure: no I/O.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from syncd.mirror.cleanup import with_parents
from syncd.models import Action, Kind, WantedFile


def entry_written(action: Action) -> WantedFile:
    """Return what the action writes, or, for a removal, what it wrote once."""
    if action.wanted is not None:
        return action.wanted
    if action.recorded is None:
        raise ValueError(f"an action without want and had: {action}")
    return action.recorded.entry


def by_directory(actions: Iterable[Action]) -> dict[tuple[str, str], list[Action]]:
    """Return the actions by (root, directory), in their order."""
    groups: dict[tuple[str, str], list[Action]] = {}
    for action in actions:
        groups.setdefault((entry_written(action).root, posixpath.dirname(action.path)), []).append(
            action
        )
    return groups


def is_below_any(path: str, files: set[str]) -> bool:
    """Return whether the path is below one of these files."""
    return bool(files) and any(parent in files for parent in with_parents(posixpath.dirname(path)))


def split_removals(
    removals: Sequence[Action], writes: Sequence[Action]
) -> tuple[list[Action], list[Action]]:
    """Return the removals that a write needs first, and all others.

    A write needs one first where a file becomes a directory, or a directory a file; the others come
    last.
    """
    needed = {
        parent
        for folder in {posixpath.dirname(action.path) for action in writes}
        for parent in with_parents(folder)
    }
    replaced = {
        action.path
        for action in writes
        if action.expected is not None and action.expected.kind is Kind.DIRECTORY
    }
    early = [
        action
        for action in removals
        if action.path in needed or is_below_any(action.path, replaced)
    ]
    chosen = {action.path for action in early}
    return early, [action for action in removals if action.path not in chosen]
