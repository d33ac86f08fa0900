"""The trees of one commit, from the cache, a Contents answer or the Git Trees API.

A tree that is cached is not requested again, because an id never changes its meaning. Everything
is verified up to the tree id it was asked for (trees.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from syncd.errors import BadResponseError, NotFoundError
from syncd.git_objects import TREE
from syncd.github.protocol import Request, Response, get, repo_path
from syncd.github.request import send_and_read
from syncd.github.request_cache import SingleFlight
from syncd.github.scope import RepositoryScope, folder_label
from syncd.github.tree_json import ContentsAnswer, TreeAnswer, parse_tree, too_many_entries_error
from syncd.github.trees import (
    Folder,
    folder_from_contents,
    shallow_key,
    verify_folder,
    verify_recursive,
)
from syncd.models import TreeEntry
from syncd.ports import ListingCache
from syncd.tree_names import join_path, unsafe_name_error, unsafe_name_reason
from syncd.tree_walk import MAX_DEPTH

MODE_KEY = b'"mode"'  # once per entry; inside a name its quotes would be escaped

TREES, RECURSIVE = "/git/trees/", "?recursive=1"

Entries = Mapping[str, TreeEntry]
NamedTree = tuple[str, str]  # the folder, and its tree id


def tree_request(api: str, repo: str) -> tuple[Request, str]:
    """Return the request for a whole tree, whose id is missing, and what follows the id in its
    URL.
    """
    return get(api, repo_path(repo) + TREES, "tree", "", repo), RECURSIVE


class TreeReader:
    """Reads trees of one commit. One object a run: what it has read serves every rule.

    `tree` is the commit's tree where a signed object names it. Six parameters: see `Source`.
    """

    def __init__(
        self,
        scope: RepositoryScope,
        commit: str,
        memory: ListingCache,
        shared: SingleFlight,
        max_entries: int,
        tree: str | None = None,
    ) -> None:
        self._scope, self._commit, self._memory, self._tree = scope, commit, memory, tree
        self._shared, self._max_entries = shared, max_entries
        self._label = scope.at(commit)
        # folders read in this run, by tree id; the root by its commit too
        self._levels: dict[str, Folder] = {}

    def list_folders(self, folders: Mapping[str, ContentsAnswer]) -> dict[str, TreeEntry]:
        """Return everything below these folders, by repository path; folders are left out."""
        entries: dict[str, TreeEntry] = {}
        unread: list[NamedTree] = []
        for folder, answer in folders.items():
            tree = str(answer.sha)
            known = self._memory.load_listing(tree)
            if known is None and (flat := _flat_folder(folder, answer)) is not None:
                known = flat
                self._memory.save_listing(tree, known)
            if known is None:
                unread.append((folder, tree))
            else:
                _add(entries, folder, known)
        self._read_into(entries, unread, "")
        return entries

    def direct_children(self, folder: str, answer: ContentsAnswer) -> Folder:
        """Return the direct children of a folder, subfolders among them."""
        verified = folder_from_contents(answer) if answer.rows else None
        if verified is not None:
            return verified
        tree = str(answer.sha)
        known = self._memory.load_listing(shallow_key(tree))
        if known is not None:
            return Folder(tree, known)
        level = self._read_level(tree, folder)
        self._memory.save_listing(shallow_key(tree), level.children)
        return level

    def find_tree_id(self, folder: str) -> str:
        """Return the tree id of a folder by the trees above it.

        This is for servers that do not know the object media type, and for signed commits.
        """
        if self._tree is not None and not folder:
            return self._tree
        found, above = self._root(), ""
        for name in folder.split("/") if folder else ():
            entry = found.children.get(name)
            above = join_path(above, name)
            if entry is None or entry.mode != TREE:
                where = f"{folder_label(above)} of {self._label}"
                raise BadResponseError(
                    f"{where} is a folder to the Contents API and none to the Trees API"
                )
            if above == folder:
                return entry.id
            found = self._read_level(entry.id, above)
        return found.id

    def names_below(self, tree: str) -> Sequence[tuple[str, bool]]:
        """Return (path, whether it is a folder) of everything below a tree, unverified.

        Of a cached tree the folders are left out.
        """
        known = self._memory.load_listing(tree)
        if known is not None:
            return [(path, False) for path in known]
        answer = self._request_tree(tree, f"a tree of {self._label}", recursive=True)
        return [(row.path, row.entry.mode == TREE) for row in answer.rows]

    def check_count(self, count: int) -> None:
        """Check the number of entries of a listing. Raises LimitError past the limit."""
        if count > self._max_entries:
            raise too_many_entries_error(self._label, self._max_entries)

    def _root(self) -> Folder:
        found = self._levels.get(self._commit)
        if found is None:
            what = f"the root of {self._label}"
            root = self._request_tree(self._tree or self._commit, what, recursive=False)
            tree = self._tree or (root.sha if root.sha != self._commit else None)
            found = self._levels[self._commit] = verify_folder(root, tree, what)
        return found

    # --- whole trees ------------------------------------------------------------------------------

    def _read_into(
        self, entries: dict[str, TreeEntry], trees: Sequence[NamedTree], folder: str
    ) -> None:
        """Add everything below these trees to `entries`; their names are relative to `folder`."""
        places = [(join_path(folder, name), tree) for name, tree in trees]
        found = self._scope.pool.map(self._read_recursive, places, self._scope.deadline)
        for (name, tree), (place, _), below in zip(trees, places, found, strict=True):
            if below is None:
                below = self._read_by_level(place, tree)
                self._memory.save_listing(tree, below)
            _add(entries, name, below)
            self.check_count(len(entries))

    def _read_recursive(self, place: NamedTree) -> dict[str, TreeEntry] | None:
        """Return everything below one tree and cache it; None when GitHub cut the answer."""
        folder, tree = place
        what = self._tree_label(folder)
        own: list[dict[str, TreeEntry] | None] = []

        def is_complete() -> bool:
            own.append(self._request_recursive(tree, what))
            return own[0] is not None

        key = ("tree", tree, self._scope.repo.lower(), self._commit, folder)
        if not self._shared.get_or_fetch(key, is_complete, self._scope.deadline):
            return None
        if own:
            return own[0]
        # the run that requested it cached it; it may have been lost meanwhile
        known = self._memory.load_listing(tree)
        return dict(known) if known is not None else self._request_recursive(tree, what)

    def _request_recursive(self, tree: str, what: str) -> dict[str, TreeEntry] | None:
        answer = self._request_tree(tree, what, recursive=True)
        if answer.truncated:
            return None
        entries = verify_recursive(answer, tree, what)[1]
        self._memory.save_listing(tree, entries)
        return entries

    def _read_by_level(self, folder: str, tree: str) -> dict[str, TreeEntry]:
        """Return everything below a tree that is too large for one answer.

        One level of it is read, then each subtree as a whole, cached by its own id. The depth is
        limited because each level costs two requests.
        """
        if folder.count("/") >= MAX_DEPTH:
            raise unsafe_name_error(folder, f"is nested deeper than {MAX_DEPTH} folders")
        entries: dict[str, TreeEntry] = {}
        unread: list[NamedTree] = []
        for name, entry in self._read_level(tree, folder).children.items():
            if (reason := unsafe_name_reason(name)) is not None:
                raise unsafe_name_error(join_path(folder, name), reason)
            if entry.mode != TREE:
                entries[name] = entry
            elif (known := self._memory.load_listing(entry.id)) is not None:
                _add(entries, name, known)
            else:
                unread.append((name, entry.id))
        self._read_into(entries, unread, folder)
        return entries

    def _read_level(self, tree: str, folder: str) -> Folder:
        if tree in self._levels:
            return self._levels[tree]
        what = self._tree_label(folder)
        answer = self._request_tree(tree, what, recursive=False)
        if answer.truncated:
            raise BadResponseError(
                f"{what} has more entries in one folder than GitHub lists",
                id="bad_response/folder-too-large",
                hint="split the folder upstream",
            )
        self._levels[tree] = verify_folder(answer, tree, what)
        return self._levels[tree]

    def _tree_label(self, folder: str) -> str:
        return f"the tree of {folder_label(folder)} of {self._label}"

    # --- requests ---------------------------------------------------------------------------------

    def _request_tree(self, tree: str, what: str, recursive: bool) -> TreeAnswer:
        path = TREES + tree + (RECURSIVE if recursive else "")
        request = self._scope.get_request(path, "tree", what)
        take = self._limited_reader(what)
        try:
            answer = send_and_read(self._scope.transport, request, self._scope.deadline, take)
        except NotFoundError as error:
            if error.status == 409:
                raise
            # its commit was just read, so this says nothing about the files
            raise BadResponseError(
                f"{what}: GitHub does not find tree {tree[:12]} that it has just named",
                id="bad_response/tree-not-found",
                status=error.status,
                hint="the next run asks again",
            ) from error
        return parse_tree(answer.body, what, self._max_entries)

    def _limited_reader(self, what: str) -> Callable[[Response], bytes]:
        """Return a reader of a tree's JSON that stops at the first entry past the limit."""

        def take(response: Response) -> bytes:
            body, count, end = [], 0, b""
            for chunk in response.chunks():
                window = end + chunk
                found = window.count(MODE_KEY)
                count += found
                self._scope.deadline.progress.advance(files=found)
                end = window[-(len(MODE_KEY) - 1) :]
                if count > self._max_entries:
                    raise too_many_entries_error(what, self._max_entries)
                body.append(chunk)
            return b"".join(body)

        return take


def _flat_folder(folder: str, answer: ContentsAnswer) -> Entries | None:
    """Return all there is below a folder without subfolders, when its Contents answer proves it."""
    if not answer.rows or any(kind == "dir" for _, kind, _, _ in answer.rows):
        return None
    found = folder_from_contents(answer)
    if found is None:
        return None
    for name in found.children:
        if (reason := unsafe_name_reason(name)) is not None:
            raise unsafe_name_error(join_path(folder, name), reason)
    return found.children


def _add(entries: dict[str, TreeEntry], folder: str, below: Entries) -> None:
    for path, entry in below.items():
        entries[join_path(folder, path)] = entry
