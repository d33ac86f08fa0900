"""What GitHub says of a tree is believed when, and only when, it hashes to the tree's id."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from syncd.errors import BadResponseError, LimitError, SyncdError, UnsafePathError
from syncd.git_objects import LINK, SUBMODULE, TREE, is_object_id
from syncd.github import tree_json
from syncd.github.tree_json import ContentsAnswer, parse_contents, parse_tree
from syncd.github.trees import (
    folder_from_contents,
    shallow_key,
    verify_folder,
    verify_recursive,
)
from syncd.simulator.repository import File, Link, Repository, Submodule
from syncd.text import in_quotes
from syncd.tree_names import (
    has_ancestor_in,
    name_bytes,
    unsafe_name_reason,
    unsafe_path_reason,
)
from tests.fuzz.harness import mutated

ENOUGH = 1_000_000
names = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=8
).filter(lambda name: unsafe_name_reason(name) is None)
nodes = st.one_of(
    st.binary(max_size=5).map(lambda content: File(content)),
    st.binary(max_size=5).map(lambda content: File(content, executable=True)),
    st.just(Link("elsewhere")),
    st.just(Submodule("7" * 40)),
)
folders: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(names, nodes, min_size=1, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(nodes, inner), min_size=1, max_size=4),
    max_leaves=12,
)


def flat(folder: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, node in folder.items():
        found |= flat(node, f"{prefix}{name}/") if isinstance(node, dict) else {prefix + name: node}
    return found


def answered(repo: Repository, tree: str, recursive: bool = True) -> dict[str, Any]:
    kinds = {TREE: "tree", SUBMODULE: "commit"}
    rows = [
        {
            "path": path,
            "mode": f"{mode:06o}",
            "type": kinds.get(mode, "blob"),
            "sha": identity,
            "url": "https://api.github.com/...",
        }
        for path, mode, identity in repo.walk(tree, recursive=recursive)
    ]
    return {"sha": tree, "url": "https://api.github.com/...", "tree": rows, "truncated": False}


def body(answer: object) -> bytes:
    return json.dumps(answer).encode()


def read(answer: object, max_entries: int = ENOUGH) -> Any:
    return parse_tree(body(answer), "the tree", max_entries)


def made(folder: dict[str, Any]) -> tuple[Repository, str]:
    repo = Repository("acme/infra", 1)
    return repo, repo.add_files(flat(folder))


@given(folders)
def test_a_recursive_answer_that_is_right_is_every_path_below_the_tree(
    folder: dict[str, Any],
) -> None:
    repo, tree = made(folder)
    identity, entries = verify_recursive(read(answered(repo, tree)), tree, "the tree")
    assert identity == tree
    assert {path: (entry.mode, entry.id) for path, entry in entries.items()} == {
        path: (mode, found) for path, mode, found in repo.walk(tree) if mode != TREE
    }


@given(folders, st.data())
def test_a_recursive_answer_with_anything_missing_added_or_altered_is_refused(
    folder: dict[str, Any], data: st.DataObject
) -> None:
    repo, tree = made(folder)
    answer = answered(repo, tree)
    rows = answer["tree"]
    at = data.draw(st.integers(0, len(rows) - 1))
    what = data.draw(st.sampled_from(["drop", "twice", "id", "mode", "path", "cut", "swap"]))
    before = json.dumps(rows, sort_keys=True)
    if what == "drop":
        del rows[at]
    elif what == "twice":
        rows.append(dict(rows[at]))
    elif what == "cut":
        del rows[at:]
    elif what == "id":
        rows[at]["sha"] = "0123456789" * 4
    elif what == "mode":
        rows[at]["mode"], rows[at]["type"] = data.draw(
            st.sampled_from(
                [("100644", "blob"), ("100755", "blob"), ("120000", "blob"), ("040000", "tree")]
            )
        )
    elif what == "path":
        rows[at]["path"] += data.draw(st.sampled_from(["x", "/x", "\n"]))
    else:
        other = data.draw(st.integers(0, len(rows) - 1))
        rows[at]["sha"], rows[other]["sha"] = rows[other]["sha"], rows[at]["sha"]
    assume(json.dumps(rows, sort_keys=True) != before)
    with pytest.raises((BadResponseError, UnsafePathError)):
        verify_recursive(read(answer), tree, "the tree")


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_bytes_are_refused_or_say_the_same(data: st.DataObject) -> None:
    repo, tree = made(
        {
            "a": File(b"1"),
            "dir": {"b": File(b"2", True), "c": Link("b")},
            "sub": Submodule("7" * 40),
        }
    )
    right = verify_recursive(read(answered(repo, tree)), tree, "the tree")
    mutated = bytearray(body(answered(repo, tree)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        how = data.draw(st.sampled_from(["flip", "drop", "insert"]))
        if how == "flip":
            mutated[at] = data.draw(st.integers(0, 255))
        elif how == "drop":
            del mutated[at : at + data.draw(st.integers(1, 40))]
        else:
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        assume(mutated)
    try:
        answer = parse_tree(bytes(mutated), "the tree", ENOUGH)
        if answer.truncated:
            return
        found = verify_recursive(answer, tree, "the tree")
    except SyncdError:
        return
    assert {path: (entry.mode, entry.id) for path, entry in found[1].items()} == {
        path: (entry.mode, entry.id) for path, entry in right[1].items()
    }


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("a" * 40)
    | st.just("100644"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["path", "mode", "type", "sha", "size", "tree", "truncated", "entries", "name"]
            ),
            inner,
            max_size=7,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=300)
@given(json_values)
def test_any_json_is_an_answer_or_a_bad_response(value: object) -> None:
    for reader in (lambda: read(value), lambda: parse_contents(body(value), "the folder")):
        with suppress(BadResponseError):
            reader()


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"tree": [}',
        b"9" * 10_000,
        b"null",
        b'{"tree": {}}',
        b'{"tree": [5]}',
        b'{"tree": [], "truncated": "no"}',
    ],
)
def test_what_is_no_tree_is_a_bad_response(bytes_: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse_tree(bytes_, "the tree", ENOUGH)


def test_too_many_entries_stop_the_reading() -> None:
    repo, tree = made({f"f{number}": File(b"") for number in range(50)})
    assert len(read(answered(repo, tree), 50).rows) == 50
    with pytest.raises(LimitError, match="more than 49"):
        read(answered(repo, tree), 49)


def test_a_hundred_thousand_entries_are_read_in_bounded_memory() -> None:
    row = (
        '{"path":"some/folder/of/files/file-%06d.conf","mode":"100644","type":"blob",'
        '"sha":"%040x","size":10,"url":"https://api.github.com/repos/acme/infra/git/blobs/%040x"}'
    )
    text = (
        '{"sha":"%s","tree":[' % ("1" * 40)
        + ",".join(row % (number, number, number) for number in range(100_000))
        + '],"truncated":false}'
    ).encode()
    tracemalloc.start()
    answer = parse_tree(text, "the tree", ENOUGH)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(answer.rows) == 100_000
    assert peak < 100 << 20


# --- one folder -----------------------------------------------------------------------------------


@given(folders)
def test_a_folder_answer_that_is_right_is_its_direct_children(folder: dict[str, Any]) -> None:
    repo, tree = made(folder)
    found = verify_folder(read(answered(repo, tree, recursive=False)), tree, "the tree")
    assert {name: (entry.mode, entry.id) for name, entry in found.children.items()} == {
        name: (mode, identity) for name, mode, identity in repo.walk(tree, recursive=False)
    }
    with pytest.raises(BadResponseError):
        verify_folder(read(answered(repo, tree, recursive=False)), "2" * 40, "the tree")


def contents(repo: Repository, tree: str) -> ContentsAnswer:
    kinds = {TREE: "dir", LINK: "symlink", SUBMODULE: "submodule"}
    return ContentsAnswer(
        "dir",
        tree,
        tuple(
            (name, kinds.get(mode, "file"), identity, 1)
            for name, mode, identity in repo.walk(tree, recursive=False)
        ),
    )


@given(st.dictionaries(names, nodes, min_size=1, max_size=6))
def test_modes_that_the_contents_api_does_not_tell_are_proven_by_the_id(
    folder: dict[str, Any],
) -> None:
    repo, tree = made(folder)
    found = folder_from_contents(contents(repo, tree))
    assert found is not None
    assert {name: (entry.mode, entry.id) for name, entry in found.children.items()} == {
        name: (mode, identity) for name, mode, identity in repo.walk(tree, recursive=False)
    }


@given(st.dictionaries(names, nodes, min_size=2, max_size=6), st.data())
def test_contents_that_do_not_prove_their_folder_are_not_taken(
    folder: dict[str, Any], data: st.DataObject
) -> None:
    repo, tree = made(folder)
    answer = contents(repo, tree)
    rows = list(answer.rows)
    del rows[data.draw(st.integers(0, len(rows) - 1))]
    assert folder_from_contents(ContentsAnswer("dir", tree, tuple(rows))) is None


def test_a_thousand_rows_may_be_cut_and_are_not_tried() -> None:
    repo, tree = made({f"{number:04d}": File(b"") for number in range(1000)})
    assert folder_from_contents(contents(repo, tree)) is None
    repo, tree = made({f"{number:04d}": File(b"") for number in range(999)})
    assert folder_from_contents(contents(repo, tree)) is not None


def test_guessing_ends_where_it_would_cost_more_than_asking() -> None:
    repo, tree = made(
        {f"{number:03d}.conf": File(b"", executable=number % 2 == 0) for number in range(300)}
    )
    assert folder_from_contents(contents(repo, tree)) is None


def test_old_submodules_listed_as_files_are_told_by_their_missing_download() -> None:
    answer = parse_contents(
        body(
            {
                "type": "dir",
                "sha": "1" * 40,
                "entries": [
                    {
                        "name": "sub",
                        "type": "file",
                        "sha": "7" * 40,
                        "size": 0,
                        "download_url": None,
                    }
                ],
            }
        ),
        "x",
    )
    assert answer.rows == (("sub", "submodule", "7" * 40, None),)


def test_git_agrees_about_the_ids(tmp_path: Any) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for path, content, mode in (("a/b", "1", 0o644), ("a.c", "2", 0o755), ("a0", "3", 0o644)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
        (tmp_path / path).chmod(mode)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    tree = subprocess.run(
        ["git", "-C", str(tmp_path), "write-tree"], check=True, capture_output=True, text=True
    ).stdout.strip()
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-tree", "-r", "-t", "-z", tree],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [
        {
            "path": line.split("\t")[1],
            "mode": line.split()[0],
            "type": line.split()[1],
            "sha": line.split()[2],
        }
        for line in listed.split("\0")
        if line
    ]
    assert set(verify_recursive(read({"sha": tree, "tree": rows}), tree, "git's")[1]) == {
        "a/b",
        "a.c",
        "a0",
    }


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "named ''"),
        (".", "named"),
        ("..", "named"),
        ("a/b", "slash"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("\x1b[0m", "control"),
        ("\x7f", "control"),
        ("\x9b", "control"),
        (".git", "git's own"),
        (".GIT", "git's own"),
        (".gIt", "git's own"),
        ("\udcff", "not UTF-8"),
        ("\ud800", "not UTF-8"),
        ("x" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
    ],
)
def test_a_name_that_no_disk_shall_see_is_refused(name: str, reason: str) -> None:
    assert reason in (unsafe_name_reason(name) or "")
    assert "/" in name or unsafe_path_reason(f"fine/{name}/fine") is not None


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "...",
        ".gitignore",
        ".github",
        "-rf",
        " ",
        "a b",
        "#",
        "%2e%2e",
        "?",
        "+",
        "'",
        '"',
        "\\",
        "é",
        "e\u0301",
        "x" * 255,
        "\ufffd",
        "…",
    ],
)
def test_an_odd_name_that_a_disk_can_hold_is_not_refused(name: str) -> None:
    assert unsafe_name_reason(name) is None


@given(st.text(max_size=300))
def test_what_is_printed_of_a_path_acts_on_no_terminal(text: str) -> None:
    shown = in_quotes(text)
    assert shown.isprintable() and len(shown) <= 160


@given(st.binary(min_size=1, max_size=20))
def test_raw_names_survive_being_text(raw: bytes) -> None:
    assert name_bytes(raw.decode("utf-8", "surrogateescape")) == raw


def test_a_shallow_key_is_no_trees_id() -> None:
    assert is_object_id(shallow_key("1" * 40)) and shallow_key("1" * 40) != "1" * 40


def test_covered_means_a_proper_ancestor_is_listed() -> None:
    assert (
        has_ancestor_in("a/b", {"a"})
        and has_ancestor_in("a", {""})
        and has_ancestor_in("a/b/c", {"a"})
    )
    assert (
        not has_ancestor_in("a", {"a"})
        and not has_ancestor_in("ab", {"a"})
        and not has_ancestor_in("", {""})
    )


ODDITIES = int(os.environ.get("SYNCD_ODD_ANSWERS", "1500"))  # of each kind
ID = "ab" * 20
LINES = [
    {"path": "a", "mode": "100644", "type": "blob", "sha": ID, "size": 3, "url": "u"},
    {"path": "d", "mode": "040000", "type": "tree", "sha": ID, "url": "u"},
    {"path": "ü/é", "mode": "100755", "type": "blob", "sha": ID, "size": 0, "url": "u"},
    {"path": "l", "mode": "120000", "type": "blob", "sha": ID, "size": 1, "url": "u"},
    {"path": "s", "mode": "160000", "type": "commit", "sha": ID, "url": "u"},
]
ANSWERS = [
    json.dumps(
        {"sha": ID, "url": "u", "tree": lines, "truncated": bool(lines)}, ensure_ascii=bool(lines)
    ).encode()
    for lines in ([], LINES[:1], LINES, LINES * 4)
]
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**70,
    "",
    "x",
    "blob",
    "tree",
    "40000",
    "100664",
    "0100644",
    [],
    {},
    {"path": "a", "mode": "100644"},
    [LINES[0]],
    "\udcff",
    "a\0b",
    ID.upper(),
]


def odd_answers(count: int) -> list[bytes]:
    """Answers with one or two values that are another, missing or new."""
    rng, made = random.Random(1), []
    for _ in range(count):
        answer = json.loads(ANSWERS[2])
        for place in rng.sample([answer, *answer["tree"]], rng.choice([1, 1, 2])):
            key = rng.choice([*place, "new"])
            if rng.random() < 0.2:
                place.pop(key, None)
            else:
                place[key] = rng.choice(ODD)
        made.append(
            json.dumps(answer, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        )
    return made


def test_an_answer_is_judged_the_same_at_once_and_value_by_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judged(body: bytes) -> tuple[Any, ...]:
        try:
            return ("is", parse_tree(body, "x", 15))
        except SyncdError as error:
            return type(error), str(error)

    hidden = [
        ANSWERS[2].replace(b'"truncated"', b'"tree": [], "truncated"'),
        ANSWERS[1].replace(b'"tree"', b'"tree": [], "trees"'),
    ]
    bodies = [*mutated(ANSWERS, ODDITIES), *odd_answers(ODDITIES), *hidden]
    at_once = [judged(body) for body in bodies]
    assert all(
        tree_json._parse_plain(body, 100) is not None for body in ANSWERS
    )  # as GitHub writes them
    monkeypatch.setattr(tree_json, "_parse_plain", lambda body, max_entries: None)
    for body, found in zip(bodies, at_once, strict=True):
        assert found == judged(body), body
    assert {one[0] for one in at_once} == {"is", BadResponseError, LimitError}


def test_rows_that_spell_their_keys_otherwise_are_neither_hidden_nor_read_before_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = '{"path":"a%d","m\\u006fde":"100644","type":"blob","sha":"' + "1" * 40 + '"}'
    hidden = '{"sha":"' + "2" * 40 + '","tree":[' + row % 1 + '],"tree":[],"truncated":false}'
    with monkeypatch.context() as patch:
        patch.setattr(tree_json, "_parse_plain", lambda *_: None)
        slowly = _outcome(hidden)
    assert _outcome(hidden) == slowly

    monkeypatch.setattr(tree_json, "_PLAIN", None)  # whoever decodes it fails
    many = (
        '{"sha":"'
        + "2" * 40
        + '","tree":['
        + ",".join(row % number for number in range(50))
        + '],"truncated":false}'
    )
    with pytest.raises(LimitError):
        parse_tree(many.encode(), "a tree", 10)


def _outcome(text: str) -> object:
    try:
        return parse_tree(text.encode(), "a tree", 10)
    except BadResponseError as error:
        return error.message
