"""Every call that writes by path is in the table of docs/development/path-table.md, with the reason
why a link can't lead it away.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/development/path-table.md"
CODE = re.compile(r"`([\w/]+\.py::[\w.]+ [\w.]+)`")
OS_CALLS = {
    "chmod",
    "lchmod",
    "chown",
    "lchown",
    "link",
    "makedirs",
    "mkdir",
    "mkfifo",
    "mknod",
    "remove",
    "removedirs",
    "removexattr",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "setxattr",
    "symlink",
    "truncate",
    "unlink",
    "utime",
}
PATH_METHODS = {
    "chmod",
    "hardlink_to",
    "lchmod",
    "mkdir",
    "rename",
    "rmdir",
    "symlink_to",
    "touch",
    "unlink",
    "write_bytes",
    "write_text",
}
DIR_FDS = {"dir_fd", "src_dir_fd"}
WRITES = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC|\bflags\b")


class Finder(ast.NodeVisitor):
    """Collects `function call` for each call that may write by path."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self.found: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = called(node)
        if name is not None:
            self.found.append(f"{'.'.join(self._names) or 'module'} {name}")
        self.generic_visit(node)


def called(node: ast.Call) -> str | None:
    """The name of a call that may write by path; None for any other."""
    if any(keyword.arg in DIR_FDS for keyword in node.keywords):
        return None
    function = node.func
    if isinstance(function, ast.Name):
        opens_to_write = function.id in ("open", "open_nofollow") and re.search(
            r"'[wxa]b?\+?'|O_CREAT|O_WRONLY|O_RDWR|opener", ast.unparse(node)
        )
        by_descriptor = (
            bool(node.args) and "open" in ast.unparse(node.args[0]) and function.id == "open"
        )
        return function.id if opens_to_write and not by_descriptor else None
    if not isinstance(function, ast.Attribute):
        return None
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if owner == "shutil":
        if function.attr in ("get_terminal_size", "which"):
            return None
        return f"shutil.{function.attr}"
    if owner == "os":
        writes = function.attr in OS_CALLS or (
            function.attr == "open" and WRITES.search(ast.unparse(node))
        )
        return f"os.{function.attr}" if writes else None
    is_path = function.attr in PATH_METHODS or (
        function.attr == "replace" and len(node.args) == 1 and not node.keywords
    )
    return f"Path.{function.attr}" if is_path else None


def written_by_path() -> Iterator[str]:
    for path in sorted((ROOT / "syncd").rglob("*.py")):
        finder = Finder()
        finder.visit(ast.parse(path.read_text()))
        yield from (f"{path.relative_to(ROOT / 'syncd')}::{one}" for one in finder.found)


def test_every_call_that_writes_by_path_is_in_the_path_table() -> None:
    missing = set(written_by_path()) - set(CODE.findall(TABLE.read_text()))
    assert not missing, (
        f"use a descriptor (syncd/safe_open.py), or say in {TABLE.name} why no link can lead "
        f"these away: {sorted(missing)}"
    )


def test_the_path_table_names_no_call_that_is_gone() -> None:
    gone = set(CODE.findall(TABLE.read_text())) - set(written_by_path())
    assert not gone, f"remove these from {TABLE.name}: {sorted(gone)}"


ENTRY = re.compile(
    r"- \*\*Code:\*\*(.+?)\n- \*\*Links:\*\*(.+?)\n- \*\*Owner:\*\*(.+?)\n- \*\*Tests:\*\*(.+)",
    re.DOTALL,
)


def test_each_entry_of_the_path_table_is_whole_and_its_tests_exist() -> None:
    entries = TABLE.read_text().split("\n## ")[1:-1]  # the last one is "See also"
    for entry in entries:
        heading, _, text = entry.partition("\n")
        found = ENTRY.fullmatch(text.strip())
        assert found is not None and all(part.strip() for part in found.groups()), heading
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", found[4])
        assert named, heading
        for file, name in named:
            assert not name or f"def {name}(" in (ROOT / file).read_text(), name
    assert len(entries) > 20


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("os.chmod(path, 0o700)", "os.chmod"),
        ("os.rename(a, b)", "os.rename"),
        ("os.rename(a, b, src_dir_fd=one, dst_dir_fd=two)", None),
        ("os.open(path, os.O_WRONLY | os.O_CREAT)", "os.open"),
        ("os.open(path, os.O_RDONLY)", None),
        ("shutil.rmtree(path)", "shutil.rmtree"),
        ("shutil.get_terminal_size()", None),
        ("shutil.which('gpgv')", None),
        ("place.write_text('x')", "Path.write_text"),
        ("place.replace(other)", "Path.replace"),
        ("text.replace('a', 'b')", None),
        ("open(path, 'w')", "open"),
        ("open(path)", None),
    ],
)
def test_calls_that_write_by_path_are_recognised(code: str, name: str | None) -> None:
    [found] = [called(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert found == name
