"""Check that a directory that becomes a file will be empty by then, before anything is removed."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator

from syncd.errors import MirrorError
from syncd.mirror.dirfd import DirectoryMissingError, opened_directory
from syncd.mirror.ordering import entry_written
from syncd.models import Action, ActionKind, Kind
from syncd.tree_walk import walk


def check_replaceable_directories(
    actions: Iterable[Action], owned_dirs: frozenset[str], real: Callable[[str], str] = str
) -> None:
    """Raise MirrorError for a directory that becomes a file and holds what these actions leave.

    `owned_dirs` are those that syncd made: others are never removed. `real` gives the place on
    disk of a path. Raises OSError.
    """
    steps = list(actions)
    removed = {action.path for action in steps if action.kind is ActionKind.REMOVE}
    for action in steps:
        if not _replaces_directory(action):
            continue
        if action.path not in owned_dirs:
            raise foreign_directory_error(action.path)
        for path, is_directory in _inside(action.path, entry_written(action).root, real):
            if path not in (owned_dirs if is_directory else removed):
                raise _not_empty(action.path, path)


def _replaces_directory(action: Action) -> bool:
    writes = action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
    return writes and action.expected is not None and action.expected.kind is Kind.DIRECTORY


def _inside(path: str, root: str, real: Callable[[str], str]) -> Iterator[tuple[str, bool]]:
    """Yield everything in the directory, at any depth, and whether it is a directory."""
    try:
        with opened_directory(root, real(path)) as folder:
            for step in walk(folder, path):
                yield f"{path}/{step.path}", step.is_folder
    except DirectoryMissingError:
        return


def foreign_directory_error(path: str) -> MirrorError:
    """Return the error for a directory that syncd did not make, where a file belongs."""
    return MirrorError(
        f"{path} is a directory where a file belongs",
        id="mirror/foreign-directory",
        path=path,
        hint="move it away; syncd replaces no folder it did not make",
    )


def not_empty(path: str) -> MirrorError:
    """Return the error for a directory where a file belongs that others have written into."""
    return MirrorError(
        f"the directory {path} is in the way of a file and not empty",
        id="mirror/directory-not-empty",
        path=path,
        hint="move what is in it away; syncd did not write it",
    )


def _not_empty(path: str, what: str) -> MirrorError:
    return MirrorError(
        f"the directory {path} is in the way of a file: {what} is in it and stays; "
        "nothing was changed",
        id="mirror/directory-not-empty",
        path=path,
        hint=f"move {posixpath.basename(what)} away; syncd removes only what it made and did not "
        "find changed",
    )
