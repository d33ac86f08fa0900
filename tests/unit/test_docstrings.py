"""Docstrings begin with one short, plain sentence: what a function does or returns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_WORDS = 25
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9`\"'(\[{])|\n\s*\n")
# Words with which a noun or a clause begins, where a function's docstring needs a verb.
NO_VERB = {
    *("A", "An", "Each", "Every", "Facts", "For", "How", "It", "Nothing", "Paths", "Some", "The"),
    *("What", "Whether", "With"),
}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented(folder: str) -> Iterator[tuple[str, Documented, bool]]:
    """Yield place, node and whether it is public for all that may have a docstring."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        if tree.body:
            yield from _below(tree, path.relative_to(ROOT).as_posix(), True)


def _below(node: ast.AST, file: str, is_public: bool) -> Iterator[tuple[str, Documented, bool]]:
    """Yield the node if it can have a docstring, and what is inside it."""
    inner = is_public
    if isinstance(node, Documented):
        is_module = isinstance(node, ast.Module)
        inner = is_public and (is_module or not node.name.startswith("_"))
        name = "" if is_module else f" {node.name}"
        yield f"{file}:{1 if is_module else node.lineno}{name}", node, inner
        inner = inner and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from _below(child, file, inner)


def first_sentence(node: Documented) -> str | None:
    """Return the first sentence of the docstring on one line; None where there is none."""
    text = ast.get_docstring(node)
    return None if text is None else " ".join(SENTENCE_END.split(text.strip(), 1)[0].split())


def _is_called(node: Documented) -> bool:
    """Return whether it is a function; a property is named like an attribute, by a noun."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def problem_of(node: Documented, is_public: bool) -> str | None:
    """Return what is wrong with a docstring's first sentence, or None."""
    first = first_sentence(node)
    if first is None:
        return "no docstring" if is_public else None
    if len(first.split()) > MAX_WORDS:
        return f"{len(first.split())} words: {first}"
    if not first.endswith("."):
        return f"no full stop: {first}"
    if _is_called(node) and first.split()[0] in NO_VERB:
        return f"no verb first: {first}"
    return None


def test_docstrings_begin_with_a_short_sentence_and_those_of_functions_with_a_verb() -> None:
    found = [(place, problem_of(node, public)) for place, node, public in documented("syncd")]
    assert len(found) > 3000
    assert [(place, problem) for place, problem in found if problem is not None] == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def f():\n    'Return the e.g. of x. Then more.'", None),
        ("def f():\n    'Return x'", "no full stop: Return x"),
        ("def f():\n    pass", "no docstring"),
        ("def _f():\n    pass", None),
        ("def f():\n    'The x.'", "no verb first: The x."),
        ("@property\ndef f():\n    'The x.'", None),
        ("class C:\n    'The x.'", None),
        (f"def f():\n    'Return {'x ' * 25}.'", f"27 words: Return {'x ' * 25}."),
    ],
)
def test_each_kind_of_problem_is_found(code: str, problem: str | None) -> None:
    node = ast.parse(code).body[0]
    assert isinstance(node, Documented)
    assert problem_of(node, is_public=not code.startswith("def _")) == problem
