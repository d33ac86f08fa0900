"""What a commit holds at the listed paths: complete and verified, or an error.

The Contents API says which tree a listed folder is; the Git Trees API says what is in it, with modes and without the 1,000-entry cut.
A tree's id is computed again from the entries that came, so a listing that was cut, mixed or altered on the way can't become a
snapshot; and a tree whose id is remembered is not asked for again, because an id never changes its meaning.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncd.clock import Patience
from syncd.engine.ports import ListingMemory
from syncd.errors import BadResponseError, BrakeError, NotFoundError, UnsafePathError
from syncd.github.protocol import OBJECT, Request, Transport, failure, get, quoted, read_json, refusal, repo_path
from syncd.models import PathRule, TreeEntry
from syncd.objects import EXECUTABLE, FILE, LINK, SUBMODULE, TREE, is_object_id, tree_id

ENTRIES_AT_MOST = 1_000_000
MODES = {FILE, EXECUTABLE, LINK, TREE, SUBMODULE, 0o100664}
SHALLOW = "shallow-"  # memory key of one level of a tree; the bare id is the whole of it
WHOLE_FOR_FILES = 1  # see `Lister._files`

Entries = Mapping[str, TreeEntry]


@dataclass(frozen=True)
class Level:
    """One answer of the Trees API: entries by path below the tree, trees among them, and whether it was cut."""

    sha: str
    entries: dict[str, TreeEntry]
    truncated: bool


class Lister:
    """Lists one commit of one repository. One object a run: what it has read serves every rule."""

    def __init__(self, transport: Transport, api: str, repo: str, commit: str, memory: ListingMemory, patience: Patience) -> None:
        self._transport, self._api, self._repo, self._commit = transport, api, repo, commit
        self._memory, self._patience = memory, patience
        self._shown = f"{repo} at {commit[:7]}"
        self._count = 0

    def list(self, rules: Sequence[PathRule]) -> dict[str, TreeEntry]:
        """Repository path -> entry for everything the rules list. Raises NotFoundError naming the listed path that is missing."""
        entries: dict[str, TreeEntry] = {}
        folders = {rule.source for rule in rules if rule.directory}
        for folder in sorted(folders):
            if not any(other != folder and _inside(folder, other) for other in folders):
                entries.update(self._folder(folder))
        for folder in folders:
            if not any(_inside(path, folder) for path in entries):
                raise self._missing(folder + "/", entries.get(folder))
        files = [rule.source for rule in rules if not rule.directory]
        outside = [path for path in files if not any(_inside(path, folder) for folder in folders)]
        entries.update(self._files(outside))
        for path in files:
            found = entries.get(path)
            if found is None:
                raise self._missing(path, None, any(_inside(other, path) for other in entries))
        return entries

    def _missing(self, path: str, found: TreeEntry | None, is_folder: bool = False) -> NotFoundError:
        if found is not None:
            what = {LINK: "a symbolic link", SUBMODULE: "a submodule"}.get(found.mode, "a file")
            return NotFoundError(f"{path.rstrip('/')} is {what}, not a folder, in {self._shown}", hint="correct from: (a file has no trailing slash)")
        if is_folder:
            return NotFoundError(f"{path} is a folder in {self._shown}", hint=f"write it with a trailing slash: from: {path}/, and give to: one too")
        return NotFoundError(f"{path} is not in {self._shown}", hint="was it moved or removed upstream? correct from:, or remove it from the job; its files stay until then")

    # --- folders ------------------------------------------------------------------------------------------------------

    def _folder(self, folder: str) -> dict[str, TreeEntry]:
        tree = self._tree_of(folder)
        prefix = f"{folder}/" if folder else ""
        return {prefix + path: entry for path, entry in self._whole(tree, folder).items()}

    def _tree_of(self, folder: str) -> str:
        """The tree id of a folder, by the Contents API; by walking from the commit where a server does not tell."""
        path = f"/contents/{quoted(folder)}" if folder else "/contents"
        request = self._get(f"{path}?ref={self._commit}", "contents", f"{folder or 'the root'} of {self._shown}", OBJECT)
        answer = self._transport.send(request, self._patience)
        if answer.status == 404:
            found = refusal(answer)
            raise NotFoundError(self._missing(folder + "/", None).message, status=404, hint=self._missing(folder, None).hint, request_id=found.headers.get("x-github-request-id"))
        if answer.status != 200:
            raise failure(request, refusal(answer), self._patience.clock.now())
        found = read_json(request, answer)
        if isinstance(found, dict):
            kind, sha = found.get("type"), found.get("sha")
            if kind in ("file", "symlink", "submodule"):
                mode = {"file": FILE, "symlink": LINK, "submodule": SUBMODULE}[kind]
                raise self._missing(folder + "/", TreeEntry(mode, "0" * 40))
            if isinstance(sha, str) and is_object_id(sha) and isinstance(found.get("entries", []), list):
                return sha
        if isinstance(found, list) or folder == "":
            return self._walk_to(folder)
        raise BadResponseError(f"asked for {request.subject}, got something that is no folder", status=200, hint="nothing was changed")

    def _walk_to(self, folder: str) -> str:
        """The tree id of a folder, by its parents' trees: for servers that ignore the object media type."""
        tree = self._commit
        for name in folder.split("/") if folder else ():
            level = self._level(tree, recursive=False, subject=f"a folder above {folder} of {self._shown}")
            entry = level.entries.get(name)
            if entry is None or entry.mode != TREE:
                raise self._missing(folder + "/", entry)
            tree = entry.id
        if tree == self._commit:
            level = self._level(self._commit, recursive=False, subject=f"the root of {self._shown}")
            return level_id(level.entries)
        return tree

    def _whole(self, tree: str, folder: str) -> dict[str, TreeEntry]:
        """Everything below a tree, without the trees themselves."""
        remembered = self._memory.recall(tree)
        if remembered is not None and computed_id(remembered) == tree:
            return dict(remembered)
        level = self._level(tree, recursive=True, subject=f"the tree of {folder or 'the root'} of {self._shown}")
        if level.truncated:
            entries = self._walk(tree, folder)
        else:
            check_names(level.entries, self._repo)
            _verify(tree, computed_id(level.entries), self._shown)
            entries = {path: entry for path, entry in level.entries.items() if entry.mode != TREE}
        self._memory.keep(tree, entries)
        return entries

    def _walk(self, tree: str, folder: str) -> dict[str, TreeEntry]:
        """A tree too large for one answer: one level here, each subtree whole by itself (and remembered by its own id)."""
        level = self._shallow(tree, folder)
        entries: dict[str, TreeEntry] = {}
        for name, entry in level.items():
            if entry.mode == TREE:
                below = self._whole(entry.id, f"{folder}/{name}" if folder else name)
                entries.update({f"{name}/{path}": found for path, found in below.items()})
                self._count_entries(len(below))
            else:
                entries[name] = entry
        return entries

    def _shallow(self, tree: str, folder: str) -> dict[str, TreeEntry]:
        """One level of a tree, trees included."""
        remembered = self._memory.recall(SHALLOW + tree)
        if remembered is not None and level_id(remembered) == tree:
            return dict(remembered)
        level = self._level(tree, recursive=False, subject=f"the tree of {folder or 'the root'} of {self._shown}")
        if level.truncated:
            raise BadResponseError(f"one folder of {self._shown} ({folder or 'its root'}) has more entries than GitHub lists", hint="split the folder upstream")
        check_names(level.entries, self._repo)
        expected = level.sha if tree == self._commit and level.sha != tree else tree  # asked by commit, GitHub names the commit or its tree
        if expected != self._commit:
            _verify(expected, level_id(level.entries), self._shown)
            self._memory.keep(SHALLOW + expected, level.entries)
        return level.entries

    # --- files --------------------------------------------------------------------------------------------------------

    def _files(self, paths: Sequence[str]) -> dict[str, TreeEntry]:
        """Single files, with their modes. Files of one folder cost one listing.

        The mode of a file is only in its folder's tree, and that tree's id only in the folder above. Three ways, cheapest first:
        files at the root: the commit's own tree, one request. A folder whose tree was seen before: its id by the Contents API, and
        nothing more when it is the remembered one. One folder never seen: the whole recursive tree in one request instead of two;
        a repository too large for that answers `truncated` and is asked the other way from then on.
        """
        groups: dict[str, list[str]] = {}
        for path in paths:
            groups.setdefault(posixpath.dirname(path), []).append(path)
        entries: dict[str, TreeEntry] = {}
        for folder, group in groups.items():
            level = self._shallow(self._commit, "") if folder == "" else self._parent(folder, alone=len(groups) <= WHOLE_FOR_FILES)
            for path in group:
                found = level.get(posixpath.basename(path))
                if found is None or found.mode == TREE:
                    raise self._missing(path, None, is_folder=found is not None)
                entries[path] = found
        return entries

    def _parent(self, folder: str, alone: bool) -> dict[str, TreeEntry]:
        hint = f"{SHALLOW}{self._repo.lower()}:{folder}"  # says only that this folder was listed before, and the contents way pays
        if alone and self._memory.recall(hint) is None:
            level = self._level(self._commit, recursive=True, subject=f"the tree of {self._shown}")
            self._memory.keep(hint, {})
            if not level.truncated:
                tree = level.entries.get(folder)
                below = {path[len(folder) + 1 :]: entry for path, entry in level.entries.items() if path.startswith(folder + "/")}
                if tree is None or tree.mode != TREE:
                    raise NotFoundError(f"{folder} is not in {self._shown}", hint="correct from:")
                check_names(below, self._repo)
                _verify(tree.id, computed_id(below), self._shown)
                direct = {path: entry for path, entry in below.items() if "/" not in path}
                self._memory.keep(SHALLOW + tree.id, direct)
                return direct
        return self._shallow(self._tree_of(folder), folder)

    # --- one answer ---------------------------------------------------------------------------------------------------

    def _level(self, tree: str, recursive: bool, subject: str) -> Level:
        request = self._get(f"/git/trees/{tree}" + ("?recursive=1" if recursive else ""), "tree", subject)
        answer = self._transport.send(request, self._patience)
        if answer.status != 200:
            raise failure(request, refusal(answer), self._patience.clock.now())
        level = read_tree(request, read_json(request, answer))
        self._count_entries(len(level.entries))
        return level

    def _count_entries(self, more: int) -> None:
        self._count += more
        if self._count > ENTRIES_AT_MOST:
            raise BrakeError(f"{self._shown} lists more than {ENTRIES_AT_MOST} entries; nothing was changed", hint="list fewer folders")

    def _get(self, path: str, route: str, subject: str, accept: str | None = None) -> Request:
        url = repo_path(self._repo) + path
        return get(self._api, url, route, subject, self._repo, accept) if accept else get(self._api, url, route, subject, self._repo)


def read_tree(request: Request, found: Any) -> Level:
    """An answer of the Trees API. Raises BadResponseError when any part of it is not what it should be."""
    bad = BadResponseError(f"asked for {request.subject}, got something that is no tree", status=200, hint="nothing was changed; the next run asks again")
    if not isinstance(found, dict) or not isinstance(found.get("tree"), list) or not isinstance(found.get("truncated", False), bool):
        raise bad
    entries: dict[str, TreeEntry] = {}
    for item in found["tree"]:
        try:
            path, mode, sha, size = item["path"], int(item["mode"], 8), item["sha"], item.get("size")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise bad from error
        if not isinstance(path, str) or not isinstance(sha, str) or not is_object_id(sha) or mode not in MODES or not (size is None or (isinstance(size, int) and size >= 0)):
            raise bad
        if path in entries:
            raise UnsafePathError(f"{path!r} stands twice in one tree", path=path, hint="the repository's tree is broken; git fsck names it")
        entries[path] = TreeEntry(mode, sha, size)
    sha = found.get("sha")
    return Level(sha if isinstance(sha, str) else "", entries, found.get("truncated", False))


def check_names(entries: Iterable[str], repo: str) -> None:
    """Raises UnsafePathError for the first path that can't be written as it is named."""
    for path in entries:
        for name in path.split("/"):
            problem = refuse_name(name)
            if problem:
                raise UnsafePathError(f"{path!r} of {repo}: {problem}", path=path, hint="rename it upstream, or exclude the folder that holds it by listing others")


def refuse_name(name: str) -> str | None:
    """Why one name of a repository can't be mirrored, or None."""
    if name in ("", ".", ".."):
        return f"{name!r} is not a name"
    if name.lower() == ".git":
        return "a .git inside a tree is never written"
    if "\ufffd" in name:
        return "a name that is not UTF-8"
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "a control character in a name"
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        return "a name of more than 255 bytes"
    return None


def _verify(tree: str, computed: str, shown: str) -> None:
    if computed != tree:
        raise BadResponseError(f"the entries that came for a tree of {shown} do not match its id {tree[:7]}", hint="something alters or cuts answers on the way; nothing was changed")


def computed_id(entries: Entries) -> str:
    """The id of the tree that has exactly these blobs, links and submodules below it, computed from the bottom up.

    Entries that are trees themselves only say that a folder is there; what it is follows from what is in it.
    """
    folders: dict[str, list[tuple[int, bytes, str]]] = {"": []}
    for path, entry in entries.items():
        folder, _, name = path.rpartition("/")
        if entry.mode == TREE:
            folder = path
        missing = folder
        while missing not in folders:
            folders[missing] = []
            missing = missing.rpartition("/")[0]
        if entry.mode != TREE:
            folders[folder].append((entry.mode, name.encode("utf-8", "surrogatepass"), entry.id))
    for path in sorted(folders, key=lambda path: path.count("/"), reverse=True):
        if path:
            parent, _, name = path.rpartition("/")
            folders[parent].append((TREE, name.encode("utf-8", "surrogatepass"), tree_id(folders[path])))
    return tree_id(folders[""])


def level_id(entries: Entries) -> str:
    """The id of the tree whose own entries, trees among them, are exactly these."""
    return tree_id((entry.mode, name.encode("utf-8", "surrogatepass"), entry.id) for name, entry in entries.items())


def _inside(path: str, folder: str) -> bool:
    return folder == "" or path.startswith(folder + "/")
