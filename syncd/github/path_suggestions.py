"""Suggestions for a path that a commit does not have. Pure: no I/O of its own.

A suggested path is never listed or written, so the names it is based on are not verified.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from syncd.colliding_names import fold
from syncd.git_objects import TREE
from syncd.github.tree_json import ContentsAnswer
from syncd.models import PathRule, TreeEntry
from syncd.text import closest, in_quotes
from syncd.tree_names import join_path

MAX_DEPTH = 100  # folders above a name that may be suggested

Names = Mapping[str, bool]  # the names in a folder -> whether each is a folder


class KnownPaths(Struct):
    """The known names in a commit's folders.

    `answers` are Contents answers by path. `read` gives (path, whether it is a folder) for
    everything below a tree, relative to it; it is called once at most, and fills `below`.
    """

    answers: Mapping[str, ContentsAnswer]
    read: Callable[[str], Iterable[tuple[str, bool]]]
    below: dict[str, dict[str, bool]] | None = None
    trees: dict[str, str] = field(default_factory=dict)

    def names(self, folder: str) -> Names:
        """Return the names in a folder; none where more than one request in all would be needed."""
        if self.below is not None:
            return self.below.get(folder, {})
        answer = self.answers.get(folder)
        if answer is not None and answer.rows:
            self.trees.update(
                (join_path(folder, name), sha)
                for name, kind, sha, _ in answer.rows
                if kind == "dir"
            )
            return {name: kind == "dir" for name, kind, _, _ in answer.rows}
        tree = answer.sha if answer is not None else self.trees.get(folder)
        if tree is None:
            return {}
        self.below = folders_of(
            (join_path(folder, path), is_folder) for path, is_folder in self.read(tree)
        )
        return self.below.get(folder, {})


def folders_of(paths: Iterable[tuple[str, bool]]) -> dict[str, dict[str, bool]]:
    """Return folder -> the names in it, from (path, whether it is a folder).

    The folders themselves may be left out of `paths`.
    """
    found: dict[str, dict[str, bool]] = {}
    for path, is_folder in paths:
        if path.count("/") > MAX_DEPTH:
            continue
        while path:
            above, _, name = path.rpartition("/")
            if found.setdefault(above, {}).get(name) is not None:
                break
            found[above][name] = is_folder
            path, is_folder = above, True
    return found


def find_similar(path: str, is_folder: bool, names: Callable[[str], Names]) -> str | None:
    """Return the path as the commit spells it, with a slash at the end of a folder's.

    None means that nothing is similar. Each part is looked up as the same name, as one that differs
    in case or composition, and as one that is close to it.
    """
    found, parts = "", path.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        here = names(found)
        name = _similar_name(part, here, is_folder if last else True)
        if name is None or not (last or here[name]):
            return None
        found = join_path(found, name)
        if last and here[name]:
            return None if found == path else f"{found}/"
    return None if found == path else found


def _similar_name(part: str, names: Names, is_folder: bool) -> str | None:
    if part in names:
        return part
    same = [name for name in names if fold(name) == fold(part)]
    fitting = [name for name in same if names[name] is is_folder]
    if same:
        return (fitting or same)[0]
    return closest(part, (name for name in names if names[name] is is_folder))


def find_sibling(path: str, children: Mapping[str, TreeEntry]) -> str | None:
    """Return the path in the same folder that a missing file may be meant as, or None."""
    parent, _, name = path.rpartition("/")
    names = {child: entry.mode == TREE for child, entry in children.items()}
    found = find_similar(name, False, lambda _: names)
    return join_path(parent, found) if found is not None else None


def find_listed(rule: PathRule, entries: Mapping[str, TreeEntry]) -> str | None:
    """Return the listed path that a missing one may be meant as, or None."""
    folders = folders_of((path, False) for path in entries)
    return find_similar(rule.source, rule.directory, lambda folder: folders.get(folder, {}))


def did_you_mean(path: str, meant: str) -> str:
    """Return the question whether `meant` was meant by the configured `path`."""
    shown = meant if meant.isprintable() else in_quotes(meant)
    question = f"did you mean {shown}?"
    if unicodedata.normalize("NFC", meant.rstrip("/")) != unicodedata.normalize("NFC", path):
        return question
    return f"{question} (its letters are composed in another way: copy it from here)"
