"""Errors with a hint have a stable id; `docs/errors.md` has an entry for each id and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"

KINDS = (
    "auth",
    "unavailable",
    "rate_limited",
    "not_found",
    "bad_response",
    "locked",
    "mirror",
    "store",
    "hook",
    "limit",
    "config",
    "internal",
)
ID = re.compile(rf"(?:{'|'.join(KINDS)})/[a-z0-9]+(?:-[a-z0-9]+)*")

# "file: class" of a call with a hint and without an id -> why it has none
WITHOUT_ID: dict[str, str] = {}


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield every syntax node of the program with the path of its file."""
    for path in sorted((ROOT / "syncd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.relative_to(ROOT).as_posix(), node


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _ids_in_code() -> set[str]:
    return {
        node.value
        for _, node in _nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ID.fullmatch(node.value)
    }


ENTRY = re.compile(
    r"^### (\S+)\n\n```text\n(.+)\n```\n\n- \*\*Cause:\*\* (.+?)\n- \*\*Remedy:\*\* (.+?)\n\n",
    re.MULTILINE | re.DOTALL,
)


def _entries() -> list[tuple[str, str, str, str]]:
    """Return id, message, cause and remedy of each entry of the page."""
    return [
        found.groups()  # type: ignore[misc]
        for part in PAGE.read_text().replace("\n### ", "\n\0### ").split("\0")
        if (found := ENTRY.match(part))
    ]


def test_every_error_with_a_hint_has_an_id() -> None:
    missing, calls = {}, 0
    for file, node in _nodes():
        if isinstance(node, ast.Call) and _called(node).endswith("Error"):
            keywords = {keyword.arg for keyword in node.keywords}
            calls += "hint" in keywords
            if "hint" in keywords and "id" not in keywords:
                missing[f"{file}: {_called(node)}"] = node.lineno
    assert calls > 150
    assert set(missing) == set(WITHOUT_ID), missing


def test_every_id_is_a_whole_literal_of_a_known_kind() -> None:
    """An id that is put together from parts is found neither by a search nor by these tests."""
    wrong = []
    for file, node in _nodes():
        if not isinstance(node, ast.Call) or _called(node) == "add_job":  # the id of a timer
            continue
        for keyword in node.keywords:
            if keyword.arg != "id":
                continue
            for part in ast.walk(keyword.value):
                text = part.value if isinstance(part, ast.Constant) else None
                is_wrong = isinstance(text, str) and not ID.fullmatch(text)
                if is_wrong or isinstance(part, ast.JoinedStr):
                    wrong.append(f"{file}:{node.lineno}: {ast.unparse(keyword.value)}")
    assert wrong == []
    assert [one for one, *_ in _entries() if not ID.fullmatch(one)] == []


def test_the_page_has_one_entry_for_each_id_of_the_code_and_no_other() -> None:
    listed = [one for one, *_ in _entries()]
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == listed, "a heading without message, cause and remedy"
    assert len(listed) == len(set(listed))
    code = _ids_in_code()
    assert code - set(listed) == set(), "ids without an entry"
    assert set(listed) - code == set(), "entries without an id in the code"


def test_each_entry_has_a_message_on_one_line_a_cause_and_a_remedy() -> None:
    for one, message, cause, remedy in _entries():
        assert "\n" not in message and message.strip("… "), one
        assert len(cause.split()) > 2 and cause.endswith("."), one
        assert remedy.endswith("."), one


def test_each_id_is_below_the_heading_of_its_kind() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    seen = []
    for section in sections:
        ids = re.findall(r"^### (\S+)$", section, re.MULTILINE)
        if not ids:
            continue
        kind = re.search(r"^Kind `(\w+)`, exit \d+\.$", section, re.MULTILINE)
        assert kind is not None, section[:40]
        assert {one.partition("/")[0] for one in ids} == {kind[1]}
        assert ids == sorted(ids)
        seen.append(kind[1])
    assert sorted(seen) == sorted(KINDS)
