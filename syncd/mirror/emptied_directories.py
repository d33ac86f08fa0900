"""Whether a folder that becomes a file will be empty by then: looked at before anything in it goes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator

from syncd.errors import MirrorError
from syncd.mirror.dirfd import DirectoryMissingError, opened_directory
from syncd.mirror.ordering import entry_of
from syncd.mirror.paths import names_below
from syncd.models import Action, ActionKind, Kind
from syncd.tree_walk import walk


def check_replaceable_directories(
    actions: Iterable[Action], folders: frozenset[str], real: Callable[[str], str] = str
) -> None:
    """Raise MirrorError for a folder that becomes a file and holds what these actions leave.

    `folders` are those that syncd made: others are never removed. `real` gives the place on disk
    of a path. Raises OSError.
    """
    steps = list(actions)
    removed = {action.path for action in steps if action.kind is ActionKind.REMOVE}
    for action in steps:
        found = action.expected
        if (
            action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
            and found
            and found.kind is Kind.DIRECTORY
        ):
            root = entry_of(action).root
            if action.path not in folders:
                raise MirrorError(
                    f"a folder stands at {action.path}, where a file belongs",
                    path=action.path,
                    hint="move it away; syncd replaces no folder it did not make",
                )
            for path, is_dir in _inside(action.path, root, real):
                if path not in (folders if is_dir else removed):
                    raise _in_the_way(action.path, path)


def _inside(path: str, root: str, real: Callable[[str], str]) -> Iterator[tuple[str, bool]]:
    """Everything in the folder, at any depth, and whether it is a folder."""
    place = real(path)
    try:
        with opened_directory(root, names_below(place, root)) as folder:
            for step in walk(folder, path):
                yield f"{path}/{step.path}", step.is_folder
    except DirectoryMissingError:
        return


def _in_the_way(path: str, what: str) -> MirrorError:
    return MirrorError(
        f"the folder {path} is in the way of a file: {what} is in it and stays; "
        "nothing was changed",
        path=path,
        hint=f"move {posixpath.basename(what)} away; syncd removes only what it made and did not "
        "find changed",
    )
