"""Which path of a commit somebody may have meant by one that it does not have. Pure: what was read comes in, a suggestion goes out.

Nothing that is suggested here is ever listed or written, so what it is based on needs no proof.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from syncd.colliding_names import fold
from syncd.git_objects import TREE
from syncd.github.trees import ContentsAnswer, join_path
from syncd.models import PathRule, TreeEntry
from syncd.text import closest, in_quotes

MAX_DEPTH = 100  # folders above a name that may be suggested

Names = Mapping[str, bool]  # the names in a folder -> whether each is a folder


class KnownPaths(Struct):
    """What is known of a commit's folders: Contents answers by path, and everything below one folder, once that was asked for.

    `read` gives (path, whether it is a folder) for everything below a tree, relative to it.
    """

    answers: Mapping[str, ContentsAnswer]
    read: Callable[[str], Iterable[tuple[str, bool]]]
    below: dict[str, dict[str, bool]] | None = None
    trees: dict[str, str] = field(default_factory=dict)

    def names(self, folder: str) -> Names:
        """The names in a folder; none where they can't be known with one request in all."""
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
    """Folder -> the names in it, from (path, whether it is a folder), also where the folders themselves are left out."""
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
    """The path as the commit spells it, with a slash at the end of a folder's; None where nothing is alike.

    Step by step: the same name, one that differs in case or composition, one that is close to it.
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
    """What may be meant by a missing file, of what is in its folder."""
    parent, _, name = path.rpartition("/")
    names = {child: entry.mode == TREE for child, entry in children.items()}
    found = find_similar(name, False, lambda _: names)
    return join_path(parent, found) if found is not None else None


def find_listed(rule: PathRule, entries: Mapping[str, TreeEntry]) -> str | None:
    """What may be meant by a missing path, of everything that is listed."""
    folders = folders_of((path, False) for path in entries)
    return find_similar(rule.source, rule.directory, lambda folder: folders.get(folder, {}))


def did_you_mean(path: str, meant: str) -> str:
    """The question to ask of whoever configured `path`."""
    shown = meant if meant.isprintable() else in_quotes(meant)
    alike = unicodedata.normalize("NFC", meant.rstrip("/")) == unicodedata.normalize("NFC", path)
    return f"did you mean {shown}?" + (
        " (its letters are composed in another way: copy it from here)" if alike else ""
    )
