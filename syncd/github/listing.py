"""What a commit holds at the listed paths: complete and verified, or an error; never a shorter list.

The Contents API says which tree a listed folder is (and often, proven by that id, all that is in it); the Git Trees API gives modes,
recursion and more than 1,000 entries. A tree whose id is remembered is not asked for again, because an id never changes its meaning.
Everything is recomputed up to the folder's tree id, so a listing that was cut, mixed or altered on the way can't become a snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import AuthError, BadResponseError, LimitError, NotFoundError, RemoteError
from syncd.git_objects import TREE
from syncd.github import missing_path, path_suggestions
from syncd.github.bounds import TREE_ENTRIES
from syncd.github.concurrency import ThreadPool
from syncd.github.protocol import OBJECT, Request, Response, Transport, get, quoted, repo_path
from syncd.github.request import Answer, ask
from syncd.github.request_cache import NotFoundCache, SingleFlight
from syncd.github.trees import (
    ContentsAnswer,
    Folder,
    TreeAnswer,
    folder_from_contents,
    has_ancestor_in,
    join_path,
    parent_of,
    parse_contents,
    parse_tree,
    shallow_key,
    too_many_entries_error,
    unsafe_name_error,
    unsafe_name_reason,
    unsafe_path_reason,
    verify_folder,
    verify_recursive,
)
from syncd.models import PathRule, TreeEntry
from syncd.ports import ListingCache
from syncd.text import in_quotes
from syncd.tree_walk import MAX_DEPTH

MAX_ENTRIES = TREE_ENTRIES
# MAX_DEPTH also ends a listing level by level: each level costs two requests.
MAX_SHARED_ROWS = 100  # of a folder, with others who ask for it in the same tick; they read a larger one from the memory, or by its tree
MODE_KEY = b'"mode"'  # once per entry; inside a name its quotes would be escaped

Entries = Mapping[str, TreeEntry]


class ListedPaths(Struct, frozen=True):
    """What has to be read for some rules: folders `whole` with all below them, `parents` of listed files for their direct children."""

    whole: frozenset[str]
    parents: Mapping[str, tuple[str, ...]]

    @property
    def all(self) -> frozenset[str]:
        return self.whole | frozenset(self.parents)

    def listed_below(self, folder: str) -> str:
        """The first listed path that is reached through `folder`, as a message names it."""
        listed = sorted(chain(self.whole, *self.parents.values()))
        return next(
            (path for path in listed if not folder or path.startswith(f"{folder}/")), folder
        )


def listed_paths(rules: Sequence[PathRule]) -> ListedPaths:
    """A folder inside another listed one is read from that one's listing; files of one folder share it."""
    folders = frozenset(rule.source for rule in rules if rule.directory)
    whole = frozenset(folder for folder in folders if not has_ancestor_in(folder, folders))
    parents: dict[str, list[str]] = {}
    for rule in rules:
        if not rule.directory and not has_ancestor_in(rule.source, whole):
            parents.setdefault(parent_of(rule.source), []).append(rule.source)
    return ListedPaths(
        whole, {parent: tuple(sorted(set(files))) for parent, files in parents.items()}
    )


def folders_to_query(wanted: frozenset[str]) -> frozenset[str]:
    """The folders to ask the Contents API about, so that every wanted one's tree id is learnt with few requests.

    A folder's own answer names its tree, and its subfolders' trees too. So two wanted folders under one parent are learnt from the
    parent's answer, and a wanted folder whose parent is wanted as well from that one; all others are asked for themselves, whatever
    lies above them: walking down from the root would cost a request a level, and the root's tree changes with every push.
    Never more requests than wanted folders.
    """
    below = Counter(parent_of(folder) for folder in wanted if folder)
    asked = frozenset(parent for parent, count in below.items() if count > 1 or parent in wanted)
    return asked | frozenset(
        folder for folder in wanted if not folder or parent_of(folder) not in asked
    )


class TreeLister:
    """Lists one commit of one repository. One object a run: what it has read serves every rule.

    Whoever has the same `shared` asks GitHub no question that one of them has asked, whatever the answer was.
    """

    def __init__(
        self,
        transport: Transport,
        api: str,
        repo: str,
        commit: str,
        memory: ListingCache,
        deadline: Deadline,
        pool: ThreadPool,
        shared: SingleFlight,
        not_found: NotFoundCache,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._transport, self._api, self._repo, self._commit = transport, api, repo, commit
        self._memory, self._deadline, self._pool, self._shared, self._max = (
            memory,
            deadline,
            pool,
            shared,
            max_entries,
        )
        self._not_found = not_found
        self._label = f"{repo} at {commit[:7]}"
        self._answers: dict[str, ContentsAnswer] = {}  # of folders that this run has asked for
        self._levels: dict[
            str, Folder
        ] = {}  # read in this run, by tree id; the root by its commit too

    def list(self, rules: Sequence[PathRule]) -> dict[str, TreeEntry]:
        """Repository path -> entry for everything the rules list.

        Raises:  NotFoundError (naming the listed path that is missing, or is not what the rule says), UnsafePathError (a name that no
                 disk shall see), BrakeError (more than `max_entries`), BadResponseError (answers that prove nothing), and what
                 asking raises.
        """
        for rule in rules:
            if rule.source and (reason := unsafe_path_reason(rule.source)) is not None:
                raise unsafe_name_error(rule.source, reason)
        wanted = listed_paths(rules)
        found = self._resolve_folders(wanted)
        entries = self._list_recursively({folder: found[folder] for folder in sorted(wanted.whole)})
        for parent, files in sorted(wanted.parents.items()):
            children = self._direct_children(parent, found[parent]).children
            for path in files:
                entry = children.get(path.rpartition("/")[2])
                if entry is None or entry.mode == TREE:
                    raise missing_path.missing_file_error(
                        self._label,
                        path,
                        entry is not None,
                        path_suggestions.find_sibling(path, children),
                    )
                entries[path] = entry
        self._check_all_listed(rules, entries)
        return entries

    def _check_all_listed(self, rules: Sequence[PathRule], entries: Entries) -> None:
        """Listed paths that were read from another listed folder's listing are there too, and are what the rule says."""
        self._check_count(len(entries))
        folders = {""} if entries else set()
        for path in entries:
            while (path := parent_of(path)) not in folders:
                folders.add(path)
        for rule in rules:
            if rule.directory and rule.source not in folders:
                raise missing_path.missing_folder_error(
                    self._label,
                    rule.source,
                    entries.get(rule.source),
                    path_suggestions.find_listed(rule, entries),
                )
            if not rule.directory and rule.source not in entries:
                raise missing_path.missing_file_error(
                    self._label,
                    rule.source,
                    rule.source in folders,
                    path_suggestions.find_listed(rule, entries),
                )

    # --- which tree a folder is ---------------------------------------------------------------------------------------

    def _resolve_folders(self, wanted: ListedPaths) -> dict[str, ContentsAnswer]:
        """Every wanted folder -> an answer whose `sha` is its tree id; its rows are there where the folder itself was asked for."""
        first = sorted(folders_to_query(wanted.all))
        found = dict(
            zip(
                first,
                self._pool.map(
                    lambda folder: self._folder_contents(folder, wanted), first, self._deadline
                ),
                strict=True,
            )
        )
        rest = []
        for folder in sorted(wanted.all - found.keys()):
            above = found[parent_of(folder)]
            row = next(
                (
                    row
                    for row in above.rows
                    if row[0] == folder.rpartition("/")[2] and row[1] == "dir"
                ),
                None,
            )
            if row is not None:
                found[folder] = ContentsAnswer("dir", row[2])
            else:
                rest.append(
                    folder
                )  # beyond the 1,000 that are listed, or not there: its own answer tells
        found.update(
            zip(
                rest,
                self._pool.map(
                    lambda folder: self._folder_contents(folder, wanted), rest, self._deadline
                ),
                strict=True,
            )
        )
        return found

    def _folder_contents(self, folder: str, wanted: ListedPaths) -> ContentsAnswer:
        """The Contents API's answer for a folder, with its tree id."""
        if self._not_found.contains(self._cache_key(folder), self._deadline):
            raise self._missing_error(folder, wanted)
        try:
            answer = self._fetch_contents(folder)
        except NotFoundError as error:
            raise self._explain_404(folder, wanted, error) from error
        if answer.kind != "dir":
            raise self._not_a_folder_error(
                folder,
                wanted,
                {"symlink": "a symbolic link", "submodule": "a submodule"}.get(
                    answer.kind, "a file"
                ),
            )
        return answer if answer.sha is not None else replace(answer, sha=self._find_tree_id(folder))

    def _cache_key(self, folder: str) -> tuple[str, str, str]:
        return self._repo.lower(), self._commit, folder

    def _fetch_contents(self, folder: str) -> ContentsAnswer:
        what = f"{in_quotes(folder) if folder else 'the root'} of {self._label}"
        request = self._request(
            f"/contents/{quoted(folder)}?ref={self._commit}", "contents", what, OBJECT
        )
        answer = self._shared.get_or_fetch(
            ("contents", *self._cache_key(folder)),
            lambda: parse_contents(ask(self._transport, request, self._deadline).body, what),
            self._deadline,
            _without_many_rows,
        )
        self._answers[folder] = answer
        return answer

    def _find_tree_id(self, folder: str) -> str:
        """The tree id of a folder by the trees above it, for servers that do not know the object media type."""
        what = f"the root of {self._label}"
        found = self._levels.get(self._commit)
        if found is None:
            root = self._fetch_tree(self._commit, what, recursive=False)
            found = self._levels[self._commit] = verify_folder(
                root, root.sha if root.sha != self._commit else None, what
            )
        above = ""
        for name in folder.split("/") if folder else ():
            entry = found.children.get(name)
            above = join_path(above, name)
            if entry is None or entry.mode != TREE:
                raise BadResponseError(
                    f"{in_quotes(above)} of {self._label} is a folder to the Contents API and none to the Trees API"
                )
            if above == folder:
                return entry.id
            found = self._fetch_level(entry.id, above)
        return found.id

    # --- what is in a tree --------------------------------------------------------------------------------------------

    def _list_recursively(self, folders: Mapping[str, ContentsAnswer]) -> dict[str, TreeEntry]:
        """Everything below these folders, by repository path, folders left out."""
        entries: dict[str, TreeEntry] = {}
        unread: list[tuple[str, str]] = []
        for folder, answer in folders.items():
            tree = str(answer.sha)
            known = self._memory.load_listing(tree)
            if known is None and (proven := self._flat_folder(folder, answer)) is not None:
                known = proven
                self._memory.save_listing(tree, known)
            if known is None:
                unread.append((folder, tree))
            else:
                _add(entries, folder, known)
        for (folder, tree), below in zip(
            unread, self._pool.map(self._fetch_recursive, unread, self._deadline), strict=True
        ):
            if below is None:
                below = self._list_by_level(folder, tree)
                self._memory.save_listing(tree, below)
            _add(entries, folder, below)
            self._check_count(len(entries))
        return entries

    @staticmethod
    def _flat_folder(at: str, answer: ContentsAnswer) -> Entries | None:
        """All there is below a folder without subfolders, when its Contents answer proves it."""
        if any(kind == "dir" for _, kind, _, _ in answer.rows):
            return None
        folder = folder_from_contents(answer) if answer.rows else None
        if folder is None:
            return None
        for name in folder.children:
            if (reason := unsafe_name_reason(name)) is not None:
                raise unsafe_name_error(join_path(at, name), reason)
        return folder.children

    def _fetch_recursive(self, place: tuple[str, str]) -> dict[str, TreeEntry] | None:
        """Everything below one tree, which is in the memory now, or None when GitHub says that it cut the answer."""
        folder, tree = place
        what = f"the tree of {in_quotes(folder) if folder else 'the root'} of {self._label}"
        mine: list[dict[str, TreeEntry]] = []

        def whole() -> bool:
            answer = self._fetch_tree(tree, what, recursive=True)
            if not answer.truncated:
                mine.append(verify_recursive(answer, tree, what)[1])
                self._memory.save_listing(tree, mine[0])
            return not answer.truncated

        if not self._shared.get_or_fetch(
            ("tree", tree, *self._cache_key(folder)), whole, self._deadline
        ):
            return None
        known = (
            mine[0] if mine else self._memory.load_listing(tree)
        )  # another's memory is ours, unless it was lost meanwhile
        return dict(known) if known is not None else self._fetch_recursive_alone(tree, what)

    def _fetch_recursive_alone(self, tree: str, what: str) -> dict[str, TreeEntry] | None:
        answer = self._fetch_tree(tree, what, recursive=True)
        if answer.truncated:
            return None
        entries = verify_recursive(answer, tree, what)[1]
        self._memory.save_listing(tree, entries)
        return entries

    def _list_by_level(self, folder: str, tree: str) -> dict[str, TreeEntry]:
        """A tree too large for one answer: one level of it, then each subtree whole by itself and remembered by its own id."""
        if folder.count("/") >= MAX_DEPTH:
            raise unsafe_name_error(folder, f"is nested deeper than {MAX_DEPTH} folders")
        entries: dict[str, TreeEntry] = {}
        unread: list[tuple[str, str]] = []
        for name, entry in self._fetch_level(tree, folder).children.items():
            if (reason := unsafe_name_reason(name)) is not None:
                raise unsafe_name_error(join_path(folder, name), reason)
            if entry.mode != TREE:
                entries[name] = entry
            elif (known := self._memory.load_listing(entry.id)) is not None:
                _add(entries, name, known)
            else:
                unread.append((name, entry.id))
        asked = [(join_path(folder, name), identity) for name, identity in unread]
        for (name, identity), below in zip(
            unread, self._pool.map(self._fetch_recursive, asked, self._deadline), strict=True
        ):
            if below is None:
                below = self._list_by_level(join_path(folder, name), identity)
                self._memory.save_listing(identity, below)
            _add(entries, name, below)
            self._check_count(len(entries))
        return entries

    def _direct_children(self, folder: str, answer: ContentsAnswer) -> Folder:
        """The direct children of a folder, subfolders among them."""
        proven = folder_from_contents(answer) if answer.rows else None
        if proven is not None:
            return proven
        tree = str(answer.sha)
        known = self._memory.load_listing(shallow_key(tree))
        if known is not None:
            return Folder(tree, known)
        level = self._fetch_level(tree, folder)
        self._memory.save_listing(shallow_key(tree), level.children)
        return level

    def _fetch_level(self, tree: str, folder: str) -> Folder:
        if tree in self._levels:
            return self._levels[tree]
        what = f"the tree of {in_quotes(folder) if folder else 'the root'} of {self._label}"
        answer = self._fetch_tree(tree, what, recursive=False)
        if answer.truncated:
            raise BadResponseError(
                f"{what} has more entries in one folder than GitHub lists",
                hint="split the folder upstream",
            )
        self._levels[tree] = verify_folder(answer, tree, what)
        return self._levels[tree]

    # --- asking -------------------------------------------------------------------------------------------------------

    def _fetch_tree(self, tree: str, what: str, recursive: bool) -> TreeAnswer:
        request = self._request(
            f"/git/trees/{tree}" + ("?recursive=1" if recursive else ""), "tree", what
        )
        try:
            answer: Answer = ask(
                self._transport, request, self._deadline, self._limited_reader(what)
            )
        except NotFoundError as error:
            if error.status == 409:
                raise
            # its commit was just read, so this says nothing about the files
            raise BadResponseError(
                f"{what}: GitHub does not find tree {tree[:12]} that it has just named",
                status=error.status,
                hint="the next run asks again",
            ) from error
        return parse_tree(answer.body, what, self._max)

    def _limited_reader(self, what: str) -> Callable[[Response], bytes]:
        """Reads a tree's JSON, and gives up at the first byte that says it is more than may be."""

        def take(response: Response) -> bytes:
            body, count, end = [], 0, b""
            for chunk in response.chunks():
                window = end + chunk
                count += window.count(MODE_KEY)
                end = window[-(len(MODE_KEY) - 1) :]
                if count > self._max:
                    raise too_many_entries_error(what, self._max)
                body.append(chunk)
            return b"".join(body)

        return take

    def _request(self, path: str, route: str, what: str, accept: str | None = None) -> Request:
        url = repo_path(self._repo) + path
        return (
            get(self._api, url, route, what, self._repo, accept)
            if accept
            else get(self._api, url, route, what, self._repo)
        )

    # --- saying what is missing ---------------------------------------------------------------------------------------

    def _check_count(self, count: int) -> None:
        if count > self._max:
            raise too_many_entries_error(self._label, self._max)

    def _missing_error(self, folder: str, wanted: ListedPaths) -> NotFoundError:
        is_folder = folder in wanted.whole
        path = folder if is_folder else wanted.listed_below(folder)
        instead = self._suggest(path, is_folder)
        return (
            missing_path.missing_folder_error(self._label, folder, instead=instead)
            if is_folder
            else missing_path.missing_file_error(self._label, path, False, instead)
        )

    def _suggest(self, path: str, is_folder: bool) -> str | None:
        """What the commit has that is spelled nearly so, from the folders that were read and at most one tree more, once for a commit."""
        known, place = (
            path_suggestions.KnownPaths(self._answers, self._names_below),
            (*self._cache_key(path), is_folder),
        )
        if not self._answers:
            return self._not_found.suggestion(place)
        try:
            return self._not_found.suggestion(
                place, lambda: path_suggestions.find_similar(path, is_folder, known.names)
            )
        except (RemoteError, LimitError):
            return None  # the path is missing all the same, and that is what is to be said

    def _names_below(self, tree: str) -> Sequence[tuple[str, bool]]:
        recalled = self._memory.load_listing(tree)
        if recalled is not None:
            return [(path, False) for path in recalled]
        answer = self._fetch_tree(tree, f"a tree of {self._label}", recursive=True)
        return [(row.path, row.entry.mode == TREE) for row in answer.rows]

    def _not_a_folder_error(self, folder: str, wanted: ListedPaths, what: str) -> NotFoundError:
        if folder in wanted.whole:
            return missing_path.not_a_folder_error(self._label, folder, what)
        path = wanted.listed_below(folder)
        return NotFoundError(
            f"{in_quotes(path)} is not in {self._label}: {in_quotes(folder)} is {what}",
            hint="correct from:",
        )

    def _explain_404(
        self, folder: str, wanted: ListedPaths, error: NotFoundError
    ) -> NotFoundError | AuthError | BadResponseError:
        """What a 404 for a folder means. GitHub gives the same one for a path, and for a repository that is hidden by now: the root tells."""
        if error.status != 404:
            return error
        if "No commit found" in error.message:
            return BadResponseError(
                f"{self._repo}: GitHub does not find the commit {self._commit[:12]} that it has just named",
                status=404,
                hint="the next run asks again",
            )
        if folder:
            try:
                self._fetch_contents("")
            except NotFoundError as again:
                return self._explain_404("", wanted, again)
            self._not_found.add(self._cache_key(folder), self._deadline)
            return self._missing_error(folder, wanted)
        return AuthError(
            f"{self._repo} is not there any more, or this identity may not see it now (GitHub answers 404 for both)",
            status=404,
            request_id=error.request_id,
            state="hidden",
            hint="check repo:, and that the App or token still has access to it",
        )


def _without_many_rows(answer: ContentsAnswer) -> ContentsAnswer:
    """What an answer says, without the rows of a large folder: its tree id leads to them."""
    return (
        answer
        if answer.sha is None or len(answer.rows) <= MAX_SHARED_ROWS
        else replace(answer, rows=())
    )


def _add(entries: dict[str, TreeEntry], folder: str, below: Entries) -> None:
    for path, entry in below.items():
        entries[join_path(folder, path)] = entry
