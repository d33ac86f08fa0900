"""Git trees verified against their ids. Pure: no I/O.

Every listing that leaves this module hashes to the tree id it was asked for. A cut, mixed up or
damaged listing is an error, never a shorter listing. Whether a name can be written to disk is
checked too (tree_names.py); what a policy makes of it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, combinations, islice
from typing import Final

from msgspec import Struct

from syncd.errors import BadResponseError, UnsafePathError
from syncd.git_objects import EXECUTABLE, FILE, LINK, SUBMODULE, TREE, object_id, tree_id
from syncd.github.tree_json import ContentsAnswer, Row, TreeAnswer
from syncd.models import TreeEntry
from syncd.text import in_quotes
from syncd.tree_names import name_bytes, unsafe_name_error, unsafe_name_reason

# The Contents API cuts a folder there without a sign. Source: REST docs, "Get repository content".
MAX_CONTENTS_ENTRIES: Final = 1000
MAX_UNLISTED_NAMES: Final = 100  # names with a slash in them, which are refused in any case
# Entries hashed at most while guessing modes: about 30 ms, less than the request it saves.
_MAX_GUESS_ENTRIES: Final = 40_000
_CONTENTS_MODES: Final = {"file": FILE, "dir": TREE, "symlink": LINK, "submodule": SUBMODULE}
_SCRIPT_SUFFIXES: Final = (".sh", ".py", ".pl", ".rb")


class Folder(Struct, frozen=True):
    """One folder, whole and verified: direct children by name, subfolders with mode `TREE`."""

    id: str
    children: Mapping[str, TreeEntry]


def folder_from_contents(answer: ContentsAnswer) -> Folder | None:
    """Return the folder with its modes, verified by its own tree id.

    None means that only a Trees request can tell. The Contents API never says which files are
    executable, but the folder's id does: modes are right when, and only when, the entries hash to
    it. Folders of configuration hold few executables, so trying none, then each one, then pairs ...
    within a bounded effort answers most of them without a second request. A list of 1,000 may be
    cut and is not tried.
    """
    rows = answer.rows
    if answer.sha is None or answer.kind != "dir" or len(rows) >= MAX_CONTENTS_ENTRIES:
        return None
    names = {name for name, _, _, _ in rows}
    if len(names) != len(rows) or any(kind not in _CONTENTS_MODES for _, kind, _, _ in rows):
        return None
    files = sorted(
        (name for name, kind, _, _ in rows if kind == "file"), key=_is_unlikely_executable
    )
    attempts = max(1, _MAX_GUESS_ENTRIES // (len(rows) + 1))
    guesses = chain.from_iterable(combinations(files, count) for count in range(len(files) + 1))
    for executables in islice(guesses, attempts):
        children = {
            name: TreeEntry(EXECUTABLE if name in executables else _CONTENTS_MODES[kind], sha, size)
            for name, kind, sha, size in rows
        }
        if _id_of(children) == answer.sha:
            return Folder(answer.sha, children)
    return None


def _is_unlikely_executable(name: str) -> bool:
    """Return False for names that scripts tend to have, so that those are tried first."""
    return not (name.endswith(_SCRIPT_SUFFIXES) or "." not in name)


def verify_folder(answer: TreeAnswer, tree: str | None, what: str) -> Folder:
    """Return the direct children of `tree`, from a non-recursive answer.

    Raises:
        BadResponseError: the answer does not hash to `tree`.
        UnsafePathError: a name is not UTF-8, or two entries have one name.
    """
    children: dict[str, TreeEntry] = {}
    for row in answer.rows:
        if row.path in children:
            raise _duplicate_error(what, row.path)
        children[row.path] = row.entry
    found = _id_of(children)
    if tree is not None and found != tree:
        raise _mismatch_error(what, tree, children)
    return Folder(found, children)


def verify_recursive(
    answer: TreeAnswer, tree: str | None, what: str
) -> tuple[str, dict[str, TreeEntry]]:
    """Return the tree's id and every path below it, folders left out.

    The answer is a recursive one that is not truncated. Each folder's id is computed from its own
    rows and must be the one that its parent's row gives, up to `tree`, so one id verifies all of
    it. With `tree` None the root's own id is the computed one.

    Raises:
        BadResponseError: the answer does not hash to `tree`.
        UnsafePathError: a name may not be written to disk, or two entries have one name.
    """
    rows = _Rows(answer, what)
    root = tree_id(rows.children[""])
    for path, expected in chain([("", tree or root)], rows.folders.items()):
        if tree_id(rows.children[path]) != expected:
            label = f"{what}, folder {path!r}" if path else what
            names = (_text_of(name) for _, name, _ in rows.children[path])
            raise _mismatch_error(label, expected, names)
    if rows.duplicates:
        raise _duplicate_error(what, rows.duplicates[0])
    for path, reason in rows.unsafe:
        raise unsafe_name_error(path, reason)
    return root, rows.entries


class _Rows:
    """The rows of a recursive answer by folder, with what is wrong with them.

    Raises BadResponseError for too many rows of folders that are not listed.
    """

    def __init__(self, answer: TreeAnswer, what: str) -> None:
        listed = (row for row in answer.rows if row.entry.mode == TREE)
        self.folders = {row.path: row.entry.id for row in listed}
        self.children: dict[str, list[tuple[int, bytes, str]]] = {path: [] for path in self.folders}
        self.children[""] = []
        self.entries: dict[str, TreeEntry] = {}
        self.duplicates: list[str] = []
        self.unsafe: list[tuple[str, str]] = []
        seen: set[str] = set()
        unlisted = 0
        for row in answer.rows:
            parent, name = _split(row.path, self.folders)
            unlisted += "/" in name
            if unlisted > MAX_UNLISTED_NAMES:  # each costs as many steps as it has slashes
                raise BadResponseError(
                    f"{what} was answered with entries of folders that it does not list"
                )
            self._add(row, parent, name)
            if row.path in seen:
                self.duplicates.append(row.path)
            seen.add(row.path)

    def _add(self, row: Row, parent: str, name: str) -> None:
        self.children[parent].append((row.entry.mode, name_bytes(name), row.entry.id))
        reason = unsafe_name_reason(name)
        if reason is not None:
            self.unsafe.append((row.path, reason))
        if row.entry.mode != TREE:
            self.entries[row.path] = row.entry


def _split(path: str, folders: Mapping[str, str]) -> tuple[str, str]:
    """Return the folder that a row belongs to, and its name there.

    A folder that is not listed means that the name itself holds a slash; the id decides.
    """
    parent, _, name = path.rpartition("/")
    while parent and parent not in folders:
        parent, _, head = parent.rpartition("/")
        name = f"{head}/{name}"
    return (parent, name) if parent else ("", path)


def _id_of(children: Mapping[str, TreeEntry]) -> str:
    return tree_id((entry.mode, name_bytes(name), entry.id) for name, entry in children.items())


def _text_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _duplicate_error(what: str, path: str) -> UnsafePathError:
    text = f"{what} holds two entries named {path!r}"
    return UnsafePathError(text, id="mirror/duplicate-name", path=path)


def _mismatch_error(
    what: str, expected: str, names: Iterable[str]
) -> BadResponseError | UnsafePathError:
    # GitHub's JSON shows what is not UTF-8 as U+FFFD, so the true name can't be known from it
    lossy = next((name for name in names if "\ufffd" in name), None)
    if lossy is not None:
        shown = f"(shown as {in_quotes(lossy)})"
        text = f"{what} holds a name that is not UTF-8 {shown} and can't be written"
        return UnsafePathError(text, id="mirror/unsafe-name", path=lossy)
    return BadResponseError(
        f"{what} was answered with entries that do not hash to tree {expected[:12]}: "
        "damaged, cut or not the tree asked for",
        id="bad_response/tree-mismatch",
    )


def shallow_key(tree: str) -> str:
    """Return the cache's key for a folder's direct children alone.

    It is hashed under a kind that git does not have, so it is no tree's id.
    """
    return object_id("syncd shallow tree", tree.encode())
