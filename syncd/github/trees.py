"""Git trees as GitHub tells them: read, checked against their ids, and judged. Pure: bytes and values in, values out.

Nothing leaves here that does not hash to the tree id it was asked for: a cut, mixed up or damaged listing is an error, never a
shorter listing. Whether a name can be written to this machine's disk at all is judged here; what a policy makes of it is not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.json import Decoder

from syncd.errors import BadResponseError, LimitError, UnsafePathError
from syncd.git_objects import (
    EXECUTABLE,
    FILE,
    LINK,
    SUBMODULE,
    TREE,
    is_object_id,
    object_id,
    tree_id,
)
from syncd.github.bounds import (
    NAME_BYTES,
    PATH_BYTES,
    BeyondBoundError,
    brief,
    is_too_long,
    load_json,
)
from syncd.github.protocol import beyond
from syncd.models import TreeEntry
from syncd.text import in_quotes

MAX_CONTENTS_ENTRIES: Final = 1000  # the Contents API cuts a folder there without a sign. Source: REST docs, "Get repository content"
# Old gits wrote 100664; git itself still reads it as a plain file but hashes what stands there.
_TYPES: Final = {
    FILE: "blob",
    EXECUTABLE: "blob",
    0o100664: "blob",
    LINK: "blob",
    TREE: "tree",
    SUBMODULE: "commit",
}
MAX_UNLISTED_NAMES: Final = 100  # names with a slash in them, which are refused in any case
_MAX_GUESS_ENTRIES: Final = 40_000  # entries hashed at most while guessing modes: about 30 ms, less than the request it saves


class Row(Struct, frozen=True, gc=False):
    """One line of a Git Trees answer; `path` is relative to the tree that was asked for."""

    path: str
    entry: TreeEntry


class TreeAnswer(Struct, frozen=True):
    """A Git Trees answer as it came, unverified. `sha` is the tree's id, or the commit's when one was asked for by its commit."""

    sha: str | None
    truncated: bool
    rows: tuple[Row, ...]


class Folder(Struct, frozen=True):
    """One folder, whole and verified: direct children by name, subfolders with mode `TREE`."""

    id: str
    children: Mapping[str, TreeEntry]

    @property
    def flat(self) -> bool:
        return all(entry.mode != TREE for entry in self.children.values())


class ContentsAnswer(Struct, frozen=True):
    """The Contents API's object form. `kind` is `dir`, `file`, `symlink` or `submodule`; `rows` are (name, type, id, size) as listed.

    `sha` is None where a plain array came back: a server that does not know the object media type.
    """

    kind: str
    sha: str | None
    rows: tuple[tuple[str, str, str, int | None], ...] = ()


class _PlainRow(Struct, forbid_unknown_fields=True, gc=False):
    """A line as GitHub writes it."""

    path: str
    mode: Literal["100644", "100755", "120000", "040000", "160000"]
    type: Literal["blob", "tree", "commit"]
    sha: str
    size: int | None = None
    url: str = ""


class _PlainTree(Struct, forbid_unknown_fields=True):
    sha: str
    tree: list[_PlainRow]
    truncated: bool
    url: str = ""


_PLAIN: Final = Decoder(_PlainTree)
_MODES: Final = {f"{mode:06o}": mode for mode in _TYPES}

# --- reading ----------------------------------------------------------------------------------------------------------


def parse_tree(body: bytes, what: str, max_entries: int) -> TreeAnswer:
    """Read an answer of `git/trees/ID`, with or without `recursive`; rows are built while parsing, so memory stays near the rows' own.

    Raises:  BadResponseError (not JSON, wrong shapes), BrakeError (more than `max_entries`).
    Source:  GitHub REST docs, "Get a tree".
    """
    plain = _read_plain(body, max_entries)
    if plain is not None:
        return plain
    rows: list[Row] = []

    def keep(value: dict[str, Any]) -> dict[str, Any] | Row:
        if "path" not in value or "mode" not in value:
            return value
        if len(rows) >= max_entries:
            raise too_many_entries_error(what, max_entries)
        rows.append(_row(value, what))
        return rows[-1]

    answer = parse_json(body, what, "tree", keep)
    tree = answer.get("tree") if isinstance(answer, dict) else None
    if (
        not isinstance(answer, dict)
        or not isinstance(tree, list)
        or not all(isinstance(row, Row) for row in tree)
        or len(tree) != len(rows)
    ):
        raise BadResponseError(f"{what} was answered with JSON that is no tree")
    truncated = answer.get("truncated", False)
    if not isinstance(truncated, bool):
        raise BadResponseError(
            f"{what} does not say whether it is whole (truncated: {brief(truncated)})"
        )
    sha = answer.get("sha")
    return TreeAnswer(
        sha if isinstance(sha, str) and is_object_id(sha) else None, truncated, tuple(rows)
    )


def _read_plain(body: bytes, max_entries: int) -> TreeAnswer | None:
    """The answer, when every word of it is as GitHub writes it; None for any other, which is read value by value to say what is wrong with it."""
    rows_at_most = (
        body.count(b"{") - 1
    )  # also those that another `tree` of the answer hides; a name with a brace goes the long way
    if rows_at_most > max_entries:
        return None
    try:
        answer = _PLAIN.decode(body)
    except (ValueError, RecursionError):
        return None
    if rows_at_most != len(answer.tree):
        return None
    rows = []
    for row in answer.tree:
        mode = _MODES[row.mode]
        if _TYPES[mode] != row.type or not is_object_id(row.sha):
            return None
        _check_length(row.path)
        rows.append(Row(row.path, TreeEntry(mode, row.sha, _size(row.size))))
    return (
        TreeAnswer(answer.sha, answer.truncated, tuple(rows)) if is_object_id(answer.sha) else None
    )


def parse_json(body: bytes, what: str, kind: str, hook: Any = None) -> Any:
    """The JSON value of `body`. Raises BadResponseError: not UTF-8, not JSON, absurd numbers, or past the limits of its `kind`."""
    try:
        return load_json(body, kind, hook)
    except BeyondBoundError as error:
        raise beyond(what, error) from error
    except ValueError as error:
        if body.lstrip()[:1] == b"<":
            raise BadResponseError(
                f"{what} was answered with a web page (a proxy or a sign-in page?)",
                hint="nothing was changed; check what stands between here and GitHub",
            ) from error
        start = body[:60].decode("utf-8", "replace")
        raise BadResponseError(
            f"{what} was answered with something that is not JSON: {start!r}"
        ) from error


def too_many_entries_error(what: str, max_entries: int) -> LimitError:
    return LimitError(
        f"{what} lists more than {max_entries:,} files and folders",
        hint="list a smaller folder, or raise the job's limits: files",
    )


def _row(value: Mapping[str, Any], what: str) -> Row:
    path, mode, sha, size = value["path"], value["mode"], value.get("sha"), value.get("size")
    try:
        number = int(mode, 8) if isinstance(mode, str) and len(mode) <= 6 else -1
    except ValueError:
        number = -1
    kind = _TYPES.get(number)
    if (
        not isinstance(path, str)
        or kind is None
        or value.get("type") != kind
        or not isinstance(sha, str)
        or not is_object_id(sha)
    ):
        raise BadResponseError(
            f"{what} has an entry that makes no sense: {brief(path)} mode {brief(mode)} type {brief(value.get('type'))} id {brief(sha)}"
        )
    _check_length(path)
    return Row(path, TreeEntry(number, sha, _size(size)))


def _check_length(path: str) -> None:
    """Raises UnsafePathError for a path that no system call takes, before anything else looks at it."""
    if is_too_long(path):
        raise unsafe_name_error(
            path[:NAME_BYTES], f"is longer than a path can be (more than {PATH_BYTES} bytes)"
        )


def _size(value: object) -> int | None:
    """A size is a hint for limits and choices, never proof: one that makes no sense is left out."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def parse_contents(body: bytes, what: str) -> ContentsAnswer:
    """Read a Contents answer asked for in the object form; the plain array of servers that do not know it is understood too.

    Raises:  BadResponseError.
    Source:  GitHub REST docs, "Get repository content".
    """
    answer = parse_json(body, what, "contents")
    if isinstance(answer, list):
        return ContentsAnswer("dir", None, _contents_rows(answer, what))
    if not isinstance(answer, dict):
        raise BadResponseError(f"{what} was answered with JSON that is neither a file nor a folder")
    kind, sha, entries = answer.get("type"), answer.get("sha"), answer.get("entries")
    if isinstance(entries, list):
        kind = "dir"
    if kind not in ("dir", "file", "symlink", "submodule"):
        raise BadResponseError(f"{what} was answered with JSON of an unknown type: {brief(kind)}")
    if sha is not None and not (isinstance(sha, str) and is_object_id(sha)):
        raise BadResponseError(f"{what} was answered with an id that is none: {brief(sha)}")
    return ContentsAnswer(
        kind, sha, _contents_rows(entries if isinstance(entries, list) else [], what)
    )


def _contents_rows(entries: list[Any], what: str) -> tuple[tuple[str, str, str, int | None], ...]:
    rows = []
    for entry in entries:
        name, kind, sha = (
            (entry.get("name"), entry.get("type"), entry.get("sha"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if (
            not isinstance(name, str)
            or not isinstance(kind, str)
            or not isinstance(sha, str)
            or not is_object_id(sha)
        ):
            raise BadResponseError(
                f"{what} lists an entry that makes no sense: {brief(name)} type {brief(kind)} id {brief(sha)}"
            )
        _check_length(name)
        if kind == "file" and entry.get("download_url", "") is None:
            kind = "submodule"  # API versions before 2026-03-10 list a submodule as a file, but without a download
        rows.append(
            (name, kind, sha, _size(entry.get("size")) if kind in ("file", "symlink") else None)
        )
    return tuple(rows)


# --- proving ----------------------------------------------------------------------------------------------------------


def folder_from_contents(answer: ContentsAnswer) -> Folder | None:
    """The folder with its modes, proven by its own tree id, or None where a Trees request has to tell.

    The Contents API never says which files are executable, but the folder's id does: modes are right when, and only when, the
    entries hash to it. Folders of configuration hold few executables, so trying none, then each one, then pairs ... within a
    bounded effort answers most of them without a second request. A list of 1,000 may be cut and is not tried.
    """
    if answer.sha is None or answer.kind != "dir" or len(answer.rows) >= MAX_CONTENTS_ENTRIES:
        return None
    modes = {"file": FILE, "dir": TREE, "symlink": LINK, "submodule": SUBMODULE}
    if any(kind not in modes for _, kind, _, _ in answer.rows) or len(
        {name for name, _, _, _ in answer.rows}
    ) != len(answer.rows):
        return None
    files = sorted(
        (name for name, kind, _, _ in answer.rows if kind == "file"), key=_is_unlikely_executable
    )
    attempts = max(1, _MAX_GUESS_ENTRIES // (len(answer.rows) + 1))
    guesses = chain.from_iterable(combinations(files, count) for count in range(len(files) + 1))
    for executables in islice(guesses, attempts):
        children = {
            name: TreeEntry(EXECUTABLE if name in executables else modes[kind], sha, size)
            for name, kind, sha, size in answer.rows
        }
        if _id_of(children) == answer.sha:
            return Folder(answer.sha, children)
    return None


def _is_unlikely_executable(name: str) -> bool:
    """False for names that scripts tend to have, so that those are tried first."""
    return not (name.endswith((".sh", ".py", ".pl", ".rb")) or "." not in name)


def verify_folder(answer: TreeAnswer, tree: str | None, what: str) -> Folder:
    """The direct children of `tree`, from a non-recursive answer. Raises BadResponseError, UnsafePathError (not UTF-8, twins)."""
    children: dict[str, TreeEntry] = {}
    for row in answer.rows:
        if row.path in children:
            raise UnsafePathError(f"{what} holds two entries named {row.path!r}", path=row.path)
        children[row.path] = row.entry
    found = _id_of(children)
    if tree is not None and found != tree:
        raise _mismatch(what, tree, children)
    return Folder(found, children)


def verify_recursive(
    answer: TreeAnswer, tree: str | None, what: str
) -> tuple[str, dict[str, TreeEntry]]:
    """The tree's id and every path below it, folders left out, from a recursive answer that is not truncated.

    Each folder's id is recomputed from its own rows and must be the one that its parent's row gives, up to `tree`; so one id proves
    all of it. With `tree` None the root's own id is what was computed.
    Raises:  BadResponseError (does not hash), UnsafePathError (a name that no disk shall see, twins).
    """
    folders = {row.path: row.entry.id for row in answer.rows if row.entry.mode == TREE}
    children: dict[str, list[tuple[int, bytes, str]]] = {path: [] for path in folders}
    children[""] = []
    entries: dict[str, TreeEntry] = {}
    seen: set[str] = set()
    twins: list[str] = []
    unsafe: list[tuple[str, str]] = []
    unlisted = 0
    for row in answer.rows:
        parent, name = _split(row.path, folders)
        unlisted += "/" in name
        if unlisted > MAX_UNLISTED_NAMES:  # each costs as many steps as it has slashes
            raise BadResponseError(
                f"{what} was answered with entries of folders that it does not list"
            )
        children[parent].append((row.entry.mode, name_bytes(name), row.entry.id))
        reason = unsafe_name_reason(name)
        if reason is not None:
            unsafe.append((row.path, reason))
        if row.path in seen:
            twins.append(row.path)
        seen.add(row.path)
        if row.entry.mode != TREE:
            entries[row.path] = row.entry
    root = tree_id(children[""])
    for path, expected in chain([("", tree or root)], folders.items()):
        if tree_id(children[path]) != expected:
            raise _mismatch(
                f"{what}, folder {path!r}" if path else what,
                expected,
                (text_of(name) for _, name, _ in children[path]),
            )
    if twins:
        raise UnsafePathError(f"{what} holds two entries named {twins[0]!r}", path=twins[0])
    for path, reason in unsafe:
        raise unsafe_name_error(path, reason)
    return root, entries


def _split(path: str, folders: Mapping[str, str]) -> tuple[str, str]:
    """The folder a row belongs to and its name there. A folder that is not listed means that the name itself holds a slash; the id decides."""
    parent, _, name = path.rpartition("/")
    while parent and parent not in folders:
        parent, _, head = parent.rpartition("/")
        name = f"{head}/{name}"
    return (parent, name) if parent else ("", path)


def _id_of(children: Mapping[str, TreeEntry]) -> str:
    return tree_id((entry.mode, name_bytes(name), entry.id) for name, entry in children.items())


def _mismatch(what: str, expected: str, names: Iterable[str]) -> BadResponseError | UnsafePathError:
    lossy = next((name for name in names if "\ufffd" in name), None)
    if (
        lossy is not None
    ):  # GitHub's JSON shows what is not UTF-8 as U+FFFD, so the true name can't be known from it
        return UnsafePathError(
            f"{what} holds a name that is not UTF-8 (shown as {in_quotes(lossy)}) and can't be written",
            path=lossy,
        )
    return BadResponseError(
        f"{what} was answered with entries that do not hash to tree {expected[:12]}: damaged, cut or not the tree asked for"
    )


def shallow_key(tree: str) -> str:
    """The memory's key for a folder's direct children alone; hashed under a kind that git does not have, so it is no tree's id."""
    return object_id("syncd shallow tree", tree.encode())


# --- judging names ----------------------------------------------------------------------------------------------------


def unsafe_name_reason(name: str) -> str | None:
    """Why a single name in a git tree may not be written to disk, or None.

    Twins that only a case-folding or normalising filesystem confuses are judged where all destinations are known.
    """
    if name in ("", ".", ".."):
        return f"is named {name!r}"
    if "/" in name:
        return "holds a slash inside a name"
    if not (
        name.isascii() and name.isprintable()
    ):  # nearly every name is, and looking at each letter is half of proving a listing
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):
            return "holds a name that is not UTF-8"
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            return "holds a control character"
    if name.casefold() == ".git":
        return "is git's own folder"
    if len(name.encode()) > NAME_BYTES:
        return f"has a name of more than {NAME_BYTES} bytes"
    return None


def unsafe_path_reason(path: str) -> str | None:
    """`unsafe_name_reason` of the first name in `path` that is refused."""
    return next(
        (reason for reason in map(unsafe_name_reason, path.split("/")) if reason is not None), None
    )


def unsafe_name_error(path: str, reason: str) -> UnsafePathError:
    return UnsafePathError(
        f"{in_quotes(path)} in the repository {reason} and is never written", path=path
    )


def name_bytes(name: str) -> bytes:
    """A name as git stores it; lone surrogates stand for raw bytes where a server passes them on that way."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        try:
            return name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return name.encode("utf-8", "surrogatepass")


def text_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


# --- picking ----------------------------------------------------------------------------------------------------------


def below(entries: Mapping[str, TreeEntry], folder: str) -> Iterator[tuple[str, TreeEntry]]:
    """(path, entry) of everything below `folder`, paths relative to it."""
    if not folder:
        yield from entries.items()
        return
    start = f"{folder}/"
    for path, entry in entries.items():
        if path.startswith(start):
            yield path[len(start) :], entry


def join_path(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def has_ancestor_in(folder: str, folders: Sequence[str] | frozenset[str] | set[str]) -> bool:
    """Whether a proper ancestor of `folder` is among `folders`."""
    while folder:
        folder = parent_of(folder)
        if folder in folders:
            return True
    return False
