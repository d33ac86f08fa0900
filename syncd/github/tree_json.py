"""Answers of the Git Trees and Contents APIs as values, not yet verified. Pure: no I/O.

An answer that makes no sense is an error, never a shorter listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.json import Decoder

from syncd.errors import BadResponseError, LimitError
from syncd.git_objects import EXECUTABLE, FILE, LINK, SUBMODULE, TREE, is_object_id
from syncd.github.bounds import short_repr
from syncd.github.json_body import parse_json
from syncd.models import TreeEntry
from syncd.tree_names import check_length

# Old gits wrote 100664; git itself still reads it as a plain file but hashes the mode as written.
_TYPES: Final = {
    FILE: "blob",
    EXECUTABLE: "blob",
    0o100664: "blob",
    LINK: "blob",
    TREE: "tree",
    SUBMODULE: "commit",
}
_MODES: Final = {f"{mode:06o}": mode for mode in _TYPES}
_KINDS: Final = ("dir", "file", "symlink", "submodule")

ContentsRow = tuple[str, str, str, int | None]  # name, type, id, size


class Row(Struct, frozen=True, gc=False):
    """One row of a Git Trees answer; `path` is relative to the tree that was asked for."""

    path: str
    entry: TreeEntry


class TreeAnswer(Struct, frozen=True):
    """A Git Trees answer, unverified.

    `sha` is the tree's id, or the commit's when the tree was asked for by its commit.
    """

    sha: str | None
    truncated: bool
    rows: tuple[Row, ...]


class ContentsAnswer(Struct, frozen=True):
    """The Contents API's object form. `rows` are (name, type, id, size) as listed.

    `kind` is `dir`, `file`, `symlink` or `submodule`. `sha` is None where a plain array came back,
    from a server that does not know the object media type.
    """

    kind: str
    sha: str | None
    rows: tuple[ContentsRow, ...] = ()


class _PlainRow(Struct, forbid_unknown_fields=True, gc=False):
    """A row as GitHub writes it."""

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


def parse_tree(body: bytes, what: str, max_entries: int) -> TreeAnswer:
    """Parse an answer of `git/trees/ID`, with or without `recursive`.

    Rows are built while parsing, so memory stays near the rows' own.

    Raises:
        BadResponseError: not JSON, or wrong shapes.
        LimitError: more than `max_entries`.

    Source: GitHub REST docs, "Get a tree".
    """
    plain = _parse_plain(body, max_entries)
    return plain if plain is not None else _parse_carefully(body, what, max_entries)


def _parse_plain(body: bytes, max_entries: int) -> TreeAnswer | None:
    """Return the answer when all of it is as GitHub writes it, else None.

    Any other answer is parsed value by value, to say what is wrong with it.
    """
    # This counts also rows that another `tree` of the answer hides. A brace in a name makes it
    # differ from the number of rows, and the answer is parsed value by value.
    max_rows = body.count(b"{") - 1
    if max_rows > max_entries:
        return None
    try:
        answer = _PLAIN.decode(body)
    except (ValueError, RecursionError):
        return None
    if max_rows != len(answer.tree) or not is_object_id(answer.sha):
        return None
    rows = []
    for row in answer.tree:
        mode = _MODES[row.mode]
        if _TYPES[mode] != row.type or not is_object_id(row.sha):
            return None
        check_length(row.path)
        rows.append(Row(row.path, TreeEntry(mode, row.sha, _size(row.size))))
    return TreeAnswer(answer.sha, answer.truncated, tuple(rows))


def _parse_carefully(body: bytes, what: str, max_entries: int) -> TreeAnswer:
    rows: list[Row] = []

    def collect(value: dict[str, Any]) -> dict[str, Any] | Row:
        if "path" not in value or "mode" not in value:
            return value
        if len(rows) >= max_entries:
            raise too_many_entries_error(what, max_entries)
        rows.append(_row(value, what))
        return rows[-1]

    answer = parse_json(body, what, "tree", collect)
    tree = answer.get("tree") if isinstance(answer, dict) else None
    all_rows = isinstance(tree, list) and all(isinstance(row, Row) for row in tree)
    if not isinstance(answer, dict) or not all_rows or len(tree or ()) != len(rows):
        raise BadResponseError(f"{what} was answered with JSON that is no tree")
    truncated = answer.get("truncated", False)
    if not isinstance(truncated, bool):
        text = f"{what} does not say whether it is whole (truncated: {short_repr(truncated)})"
        raise BadResponseError(text)
    sha = answer.get("sha")
    known = sha if isinstance(sha, str) and is_object_id(sha) else None
    return TreeAnswer(known, truncated, tuple(rows))


def _row(value: Mapping[str, Any], what: str) -> Row:
    path, mode, sha = value["path"], value["mode"], value.get("sha")
    number = _mode_number(mode)
    kind = _TYPES.get(number)
    known_type = kind is not None and value.get("type") == kind
    if not (isinstance(path, str) and known_type and isinstance(sha, str) and is_object_id(sha)):
        shown = (
            f"{short_repr(path)} mode {short_repr(mode)} type {short_repr(value.get('type'))} "
            f"id {short_repr(sha)}"
        )
        raise BadResponseError(f"{what} has an entry that makes no sense: {shown}")
    check_length(path)
    return Row(path, TreeEntry(number, sha, _size(value.get("size"))))


def _mode_number(mode: object) -> int:
    """Return the mode as a number; -1 for what is none."""
    try:
        return int(mode, 8) if isinstance(mode, str) and len(mode) <= 6 else -1
    except ValueError:
        return -1


def _size(value: object) -> int | None:
    """Return the size, or None for a value that is none.

    A size is a hint for limits and choices, never proof.
    """
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def parse_contents(body: bytes, what: str) -> ContentsAnswer:
    """Parse a Contents answer asked for in the object form.

    The plain array of servers that do not know the object form is understood too.

    Raises:
        BadResponseError: not JSON, or wrong shapes.

    Source: GitHub REST docs, "Get repository content".
    """
    answer = parse_json(body, what, "contents")
    if isinstance(answer, list):
        return ContentsAnswer("dir", None, _contents_rows(answer, what))
    if not isinstance(answer, dict):
        raise BadResponseError(f"{what} was answered with JSON that is neither a file nor a folder")
    kind, sha, entries = answer.get("type"), answer.get("sha"), answer.get("entries")
    if isinstance(entries, list):
        kind = "dir"
    if kind not in _KINDS:
        raise BadResponseError(
            f"{what} was answered with JSON of an unknown type: {short_repr(kind)}"
        )
    if sha is not None and not (isinstance(sha, str) and is_object_id(sha)):
        raise BadResponseError(f"{what} was answered with an id that is none: {short_repr(sha)}")
    rows = _contents_rows(entries if isinstance(entries, list) else [], what)
    return ContentsAnswer(kind, sha, rows)


def _contents_rows(entries: list[Any], what: str) -> tuple[ContentsRow, ...]:
    return tuple(_contents_row(entry if isinstance(entry, dict) else {}, what) for entry in entries)


def _contents_row(entry: Mapping[str, Any], what: str) -> ContentsRow:
    name, kind, sha = entry.get("name"), entry.get("type"), entry.get("sha")
    is_named = isinstance(name, str) and isinstance(kind, str)
    if not (is_named and isinstance(sha, str) and is_object_id(sha)):
        shown = f"{short_repr(name)} type {short_repr(kind)} id {short_repr(sha)}"
        raise BadResponseError(f"{what} lists an entry that makes no sense: {shown}")
    check_length(str(name))
    # API versions before 2026-03-10 list a submodule as a file, but without a download
    if kind == "file" and entry.get("download_url", "") is None:
        kind = "submodule"
    size = _size(entry.get("size")) if kind in ("file", "symlink") else None
    return str(name), str(kind), sha, size


def too_many_entries_error(what: str, max_entries: int) -> LimitError:
    """Return the error for a listing of more entries than allowed."""
    return LimitError(
        f"{what} lists more than {max_entries:,} files and folders",
        id="limit/too-many-entries",
        hint="list a smaller folder, or raise the job's limits: files",
    )
