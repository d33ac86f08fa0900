"""The files of a commit at the listed paths: complete and verified, or an error.

A listing is never shorter than the truth. The Contents API says which tree a listed folder is, and
often, verified by that id, all that is in it. The Git Trees API gives modes, recursion and more
than 1,000 entries (tree_reader.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import AuthError, BadResponseError, NotFoundError
from syncd.git_objects import TREE
from syncd.github import missing_path, path_suggestions
from syncd.github.bounds import TREE_ENTRIES
from syncd.github.missing_path import MissingPaths
from syncd.github.protocol import OBJECT, Request, get, quote_path, repo_path
from syncd.github.request import send_and_read
from syncd.github.request_cache import RequestCaches
from syncd.github.scope import RepositoryScope, folder_label
from syncd.github.tree_json import ContentsAnswer, parse_contents
from syncd.github.tree_reader import Entries, TreeReader
from syncd.models import PathRule, TreeEntry
from syncd.ports import ListingCache
from syncd.tree_names import (
    has_ancestor_in,
    parent_of,
    unsafe_name_error,
    unsafe_path_reason,
)

MAX_ENTRIES = TREE_ENTRIES
# Rows of a folder that are shared with other runs of the same round; they read a larger folder
# from the cache, or by its tree.
MAX_SHARED_ROWS = 100


class ListedPaths(Struct, frozen=True):
    """What has to be read for some rules.

    `whole` are folders with everything below them; `parents` of listed files are read for their
    direct children.
    """

    whole: frozenset[str]
    parents: Mapping[str, tuple[str, ...]]

    @property
    def all(self) -> frozenset[str]:
        """Return every folder that has to be read."""
        return self.whole | frozenset(self.parents)

    def listed_below(self, folder: str) -> str:
        """Return the first listed path that is reached through `folder`, for messages."""
        listed = sorted(chain(self.whole, *self.parents.values()))
        below = (path for path in listed if not folder or path.startswith(f"{folder}/"))
        return next(below, folder)


def listed_paths(rules: Sequence[PathRule]) -> ListedPaths:
    """Return what has to be read for these rules.

    A folder inside another listed one is read from that one's listing; files of one folder share
    a listing.
    """
    folders = frozenset(rule.source for rule in rules if rule.directory)
    whole = frozenset(folder for folder in folders if not has_ancestor_in(folder, folders))
    parents: dict[str, set[str]] = {}
    for rule in rules:
        if not rule.directory and not has_ancestor_in(rule.source, whole):
            parents.setdefault(parent_of(rule.source), set()).add(rule.source)
    return ListedPaths(whole, {parent: tuple(sorted(files)) for parent, files in parents.items()})


def folders_to_query(wanted: frozenset[str]) -> frozenset[str]:
    """Return the folders to ask the Contents API about, to learn every wanted tree id.

    A folder's own answer names its tree, and its subfolders' trees too. So two wanted folders
    under one parent are learned from the parent's answer, and a wanted folder whose parent is
    wanted as well from that one. All others are requested themselves, whatever is above them:
    walking down from the root would cost a request a level, and the root's tree changes with every
    push. There are never more requests than wanted folders.
    """
    below = Counter(parent_of(folder) for folder in wanted if folder)
    asked = frozenset(parent for parent, count in below.items() if count > 1 or parent in wanted)
    return asked | frozenset(
        folder for folder in wanted if not folder or parent_of(folder) not in asked
    )


class FirstListing(Struct, frozen=True):
    """A request that a listing begins with. The commit is missing at the end of its URL.

    `folders` are the listed folders whose trees the answer names: "" for the one that is requested,
    or the name of one directly below it.
    """

    request: Request
    folders: tuple[str, ...]


def first_listings(api: str, repo: str, rules: Sequence[PathRule]) -> list[FirstListing]:
    """Return the requests that a listing begins with."""
    wanted, found = listed_paths(rules), []
    requested = folders_to_query(wanted.all)
    for folder in sorted(requested):
        path = repo_path(repo) + _contents_path(folder, "")
        below = sorted(
            one.rpartition("/")[2]
            for one in wanted.whole - requested
            if one and parent_of(one) == folder
        )
        itself = [""] if folder in wanted.whole else []
        request = get(api, path, "contents", "", repo, OBJECT)
        found.append(FirstListing(request, (*itself, *below)))
    return found


def _contents_path(folder: str, commit: str) -> str:
    return f"/contents/{quote_path(folder)}?ref={commit}"


class TreeLister:
    """Lists one commit of one repository. One object a run: what it has read serves every rule.

    Listers with the same `caches` make each request once, whatever the answer was. With `tree`, the
    tree that a signed commit names, every folder is checked up to it. Six parameters: see `Source`.
    """

    def __init__(
        self,
        scope: RepositoryScope,
        commit: str,
        memory: ListingCache,
        caches: RequestCaches,
        max_entries: int = MAX_ENTRIES,
        tree: str | None = None,
    ) -> None:
        self._scope, self._commit, self._caches, self._tree = scope, commit, caches, tree
        self._trees = TreeReader(scope, commit, memory, caches.shared, max_entries, tree)
        self._label = scope.at(commit)
        self._answers: dict[str, ContentsAnswer] = {}  # of folders that this run has requested
        self._missing = MissingPaths(
            scope, commit, self._answers, self._trees.names_below, caches.not_found
        )

    def list(self, rules: Sequence[PathRule]) -> dict[str, TreeEntry]:
        """Return repository path -> entry for everything the rules list.

        Raises:
            NotFoundError: a listed path is missing, or is not what the rule says.
            UnsafePathError: a name that may not be written to disk.
            LimitError: more than `max_entries`.
            BadResponseError: answers that prove nothing.

        It also raises what requests raise.
        """
        for rule in rules:
            if rule.source and (reason := unsafe_path_reason(rule.source)) is not None:
                raise unsafe_name_error(rule.source, reason)
        wanted = listed_paths(rules)
        found = self._resolve_folders(wanted)
        self._check_against_tree({folder: found[folder] for folder in sorted(wanted.all)})
        entries = self._trees.list_folders(
            {folder: found[folder] for folder in sorted(wanted.whole)}
        )
        for parent, files in sorted(wanted.parents.items()):
            children = self._trees.direct_children(parent, found[parent]).children
            for path in files:
                entries[path] = self._listed_file(path, children)
        self._check_all_listed(rules, entries)
        return entries

    def _listed_file(self, path: str, children: Entries) -> TreeEntry:
        entry = children.get(path.rpartition("/")[2])
        if entry is None or entry.mode == TREE:
            suggestion = path_suggestions.find_sibling(path, children)
            is_folder = entry is not None
            raise missing_path.missing_file_error(self._label, path, is_folder, suggestion)
        return entry

    def _check_all_listed(self, rules: Sequence[PathRule], entries: Entries) -> None:
        """Check listed paths that were read from another listed folder's listing.

        Raises NotFoundError where one does not exist or is not what its rule says, and LimitError.
        """
        self._trees.check_count(len(entries))
        folders = {""} if entries else set()
        for path in entries:
            while (path := parent_of(path)) not in folders:
                folders.add(path)
        for rule in rules:
            source = rule.source
            if source in (folders if rule.directory else entries):
                continue
            suggestion = path_suggestions.find_listed(rule, entries)
            if rule.directory:
                found = entries.get(source)
                raise missing_path.missing_folder_error(self._label, source, found, suggestion)
            is_folder = source in folders
            raise missing_path.missing_file_error(self._label, source, is_folder, suggestion)

    # --- which tree a folder is -------------------------------------------------------------------

    def _resolve_folders(self, wanted: ListedPaths) -> dict[str, ContentsAnswer]:
        """Return every wanted folder -> an answer whose `sha` is its tree id.

        The answer has rows where the folder itself was requested.
        """
        found = self._query(sorted(folders_to_query(wanted.all)), wanted)
        rest = []
        for folder in sorted(wanted.all - found.keys()):
            tree = _subfolder_tree(found[parent_of(folder)], folder.rpartition("/")[2])
            if tree is not None:
                found[folder] = ContentsAnswer("dir", tree)
            else:  # past the 1,000 that are listed, or missing: its own answer says which
                rest.append(folder)
        return found | self._query(rest, wanted)

    def _check_against_tree(self, found: Mapping[str, ContentsAnswer]) -> None:
        """Check that the tree of the signed commit leads to the trees of these folders.

        Raises BadResponseError.
        """
        if self._tree is None:
            return
        for folder, answer in found.items():
            if self._trees.find_tree_id(folder) != answer.sha:
                raise BadResponseError(
                    f"{folder_label(folder)} of {self._label} is not what the signed commit names: "
                    "GitHub listed another tree",
                    id="bad_response/other-tree",
                    hint="nothing was changed; the next run asks again",
                )

    def _query(self, folders: Sequence[str], wanted: ListedPaths) -> dict[str, ContentsAnswer]:
        answers = self._scope.pool.map(
            lambda folder: self._folder_contents(folder, wanted), folders, self._scope.deadline
        )
        return dict(zip(folders, answers, strict=True))

    def _folder_contents(self, folder: str, wanted: ListedPaths) -> ContentsAnswer:
        """Return the Contents API's answer for a folder, with its tree id."""
        path, is_folder = _named_by(folder, wanted)
        if self._caches.not_found.contains(self._key(folder), self._scope.deadline):
            raise self._missing.error(path, is_folder)
        try:
            answer = self._fetch_contents(folder)
        except NotFoundError as error:
            raise self._explain_404(folder, wanted, error) from error
        if answer.kind != "dir":
            raise missing_path.not_in_folder_error(self._label, path, folder, answer.kind)
        if answer.sha is None:
            return replace(answer, sha=self._trees.find_tree_id(folder))
        return answer

    def _key(self, folder: str) -> tuple[str, str, str]:
        return self._scope.repo.lower(), self._commit, folder

    def _fetch_contents(self, folder: str) -> ContentsAnswer:
        what = f"{folder_label(folder)} of {self._label}"
        path = _contents_path(folder, self._commit)
        request = self._scope.get_request(path, "contents", what, OBJECT)
        deadline = self._scope.deadline
        answer = self._caches.shared.get_or_fetch(
            ("contents", *self._key(folder)),
            lambda: parse_contents(
                send_and_read(self._scope.transport, request, deadline).body, what
            ),
            deadline,
            _without_many_rows,
        )
        self._answers[folder] = answer
        return answer

    def _explain_404(
        self, folder: str, wanted: ListedPaths, error: NotFoundError
    ) -> NotFoundError | AuthError | BadResponseError:
        """Return the error that a 404 for a folder means.

        GitHub answers 404 for a missing path and for a repository that is hidden by now; a request
        for the root tells them apart.
        """
        if error.status != 404:
            return error
        repo = self._scope.repo
        if "No commit found" in error.message:
            return BadResponseError(
                f"{repo}: GitHub does not find the commit {self._commit[:12]} "
                "that it has just named",
                id="bad_response/commit-not-found",
                status=404,
                hint="the next run asks again",
            )
        if not folder:
            return _hidden_error(repo, error.request_id)
        try:
            self._fetch_contents("")
        except NotFoundError as again:
            return self._explain_404("", wanted, again)
        self._caches.not_found.add(self._key(folder), self._scope.deadline)
        return self._missing.error(*_named_by(folder, wanted))


def _named_by(folder: str, wanted: ListedPaths) -> tuple[str, bool]:
    """Return the listed path that a message about `folder` names, and whether it is a folder."""
    is_folder = folder in wanted.whole
    return (folder if is_folder else wanted.listed_below(folder)), is_folder


def _subfolder_tree(answer: ContentsAnswer, name: str) -> str | None:
    rows = (row for row in answer.rows if row[0] == name and row[1] == "dir")
    return next((sha for _, _, sha, _ in rows), None)


def _hidden_error(repo: str, request_id: str | None) -> AuthError:
    return AuthError(
        f"{repo} is not there any more, or this identity may not see it now "
        "(GitHub answers 404 for both)",
        id="auth/repository-hidden",
        status=404,
        request_id=request_id,
        state="hidden",
        hint="check repo:, and that the App or token still has access to it",
    )


def _without_many_rows(answer: ContentsAnswer) -> ContentsAnswer:
    """Return the answer, without the rows of a large folder: its tree id leads to them."""
    if answer.sha is None or len(answer.rows) <= MAX_SHARED_ROWS:
        return answer
    return replace(answer, rows=())
