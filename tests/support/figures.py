"""Counts of a source tree: `python -m tests.support.figures TREE...` prints one column for each
tree (a checkout of syncd).

The code is formatted first, with ruff at 100 columns and in a copy, so that versions of different
formatting compare. Lines of code are those without docstrings, comments and blank lines. A
function's length is counted the same way, nested functions included.
"""

from __future__ import annotations

import ast
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = 100
PARAMETERS = 5
FOLDER = "lines: "
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    """What was counted in one tree; lengths are in lines of code."""

    folders: Counter[str] = field(default_factory=Counter)
    functions: list[int] = field(default_factory=list)
    modules: list[int] = field(default_factory=list)
    many_parameters: int = 0
    public: int = 0
    without_docstring: int = 0
    long_lines: int = 0


def figures_of(tree: Path) -> Figures:
    """Count the package below `tree`/syncd."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(tree / "syncd", Path(name) / "syncd"))
        ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--quiet"]
        subprocess.run([*ruff, "--line-length", str(COLUMNS), str(copy)], check=True)
        for file in sorted(copy.rglob("*.py")):
            path = file.relative_to(copy)
            add_module(figures, path.parts[0] if len(path.parts) > 1 else "(top)", file.read_text())
    return figures


def add_module(figures: Figures, folder: str, text: str) -> None:
    tree = ast.parse(text)
    lines = code_lines(text, tree)
    figures.folders[folder] += len(lines)
    figures.modules.append(len(lines))
    figures.long_lines += sum(len(line) > COLUMNS for line in text.splitlines())
    for function, is_public in functions(tree, True):
        span = range(function.lineno, (function.end_lineno or function.lineno) + 1)
        figures.functions.append(sum(line in lines for line in span))
        figures.many_parameters += parameters(function) > PARAMETERS
        figures.public += is_public
        figures.without_docstring += is_public and ast.get_docstring(function) is None


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines with code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = (range(one.start[0], one.end[0] + 1) for one in tokens if one.type not in LAYOUT)
    return {line for span in spans for line in span} - docstring_lines(tree)


def docstring_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, Function))
            and ast.get_docstring(node) is not None
        ):
            first = node.body[0]
            found |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found


def functions(node: ast.AST, is_public: bool) -> Iterator[tuple[Function, bool]]:
    """Every function below the node, and whether its name and those around it are public.

    A function in a function is not.
    """
    for child in ast.iter_child_nodes(node):
        shown = is_public and not getattr(child, "name", "").startswith("_")
        if isinstance(child, Function):
            yield child, shown
        inside = shown and not isinstance(child, Function)
        yield from functions(child, inside)


def parameters(function: Function) -> int:
    """How many a caller may give; `self` and `cls` are not counted."""
    names = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return sum(one.arg not in ("self", "cls") for one in names)


def rows(figures: Figures) -> dict[str, str]:
    """Label -> number, in the order of the table."""
    lengths = sorted(figures.functions)
    table = {f"{FOLDER}{folder}": str(count) for folder, count in sorted(figures.folders.items())}
    return table | {
        "lines": str(sum(figures.folders.values())),
        "modules": str(len(figures.modules)),
        "module, median / longest": (
            f"{statistics.median(figures.modules):.0f} / {max(figures.modules)}"
        ),
        "functions": str(len(lengths)),
        "function, median / p90 / longest": (
            f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]} / {lengths[-1]}"
        ),
        f"functions with more than {PARAMETERS} parameters": (
            f"{figures.many_parameters / len(lengths):.1%}"
        ),
        "public functions without docstring": f"{figures.without_docstring} of {figures.public}",
        f"lines over {COLUMNS} columns": str(figures.long_lines),
    }


def main(trees: list[str]) -> None:
    """Print the table as Markdown."""
    columns = [rows(figures_of(Path(tree))) for tree in trees]
    labels = {label for column in columns for label in column}
    others = [label for label in columns[0] if not label.startswith(FOLDER)]
    order = sorted(label for label in labels if label.startswith(FOLDER)) + others
    print("| | " + " | ".join(trees) + " |\n| --- |" + " ---: |" * len(trees))
    for label in order:
        print(f"| {label} | " + " | ".join(column.get(label, "-") for column in columns) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
