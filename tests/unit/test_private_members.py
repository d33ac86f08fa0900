"""syncd uses its libraries through their public interface: every private member that it touches is
in a table, with the reason.

A member is private when its name begins with one underscore. It belongs to a library, the standard
library included, when no module of syncd defines it, or when a base class outside syncd has it.
Names that are put together at run time, and those that syncd also gives to something of its own,
are not found.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

DOCUMENTED = "documented by Python in spite of its name"
SCHEDULER = (
    '"Extending APScheduler", "Custom schedulers": a subclass waits as long as its inherited '
    "`_process_jobs` says"
)
EXECUTOR = (
    "the one abstract method of `BaseExecutor`, which a custom executor has to be derived from"
)
RESULT = (
    'how a custom executor tells of a result, by its docstring and "Extending APScheduler", '
    '"Custom executors"'
)
EXCEPTIONS = {
    ("cli/run.py", "os._exit"): DOCUMENTED,
    ("init_process.py", "os._exit"): DOCUMENTED,
    ("hooks/supervisor.py", "os._exit"): DOCUMENTED,
    ("output.py", "os._exit"): DOCUMENTED,
    ("encoding.py", "sys._xoptions"): DOCUMENTED,
    (
        "config/program.py",
        "sys._base_executable",
    ): "the interpreter behind a virtual environment, which a mirror must not"
    " replace; no public name has it, and without it `sys.executable` stands alone",
    ("daemon/scheduler.py", "_Scheduler._process_jobs"): SCHEDULER,
    ("daemon/scheduler.py", "_InPlace._do_submit_job"): EXECUTOR,
    ("daemon/scheduler.py", "_InPlace._run_job_error"): RESULT,
    ("daemon/scheduler.py", "_InPlace._run_job_success"): RESULT,
    (
        "github/connections.py",
        "_HTTPResponse._read_status",
    ): "http.client reads `100 Continue` without end; `begin`, which is public, has the loop in it",
    (
        "github/connections.py",
        "HTTPConnection._new_conn",
    ): "urllib3 has no public hook between the address that answered and"
    " the first byte sent; `connect` would have to repeat its tunnel",
    (
        "github/connections.py",
        "HTTPSConnection._new_conn",
    ): "as above; `connect` would have to repeat its TLS too",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


def is_itself(node: ast.expr) -> bool:
    """Whether it is `self`, `cls` or `super()`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node) == "super()"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def modules() -> dict[str, ast.Module]:
    """Path below syncd/ -> syntax tree."""
    files = sorted((ROOT / "syncd").rglob("*.py"))
    assert len(files) > 100
    return {str(file.relative_to(ROOT / "syncd")): ast.parse(file.read_text()) for file in files}


def names_defined(tree: ast.AST) -> Iterator[str]:
    """Every name of a function, class, variable or attribute that the tree gives a value."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def foreign_uses(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """Private names that the tree imports from elsewhere, or uses and syncd does not define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours:
            if not is_itself(node.value):  # that is looked for by class
                yield f"{ast.unparse(node.value)}.{node.attr}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                path = f"{module}.{alias.name}".lstrip(".")
                if not path.startswith("syncd.") and any(map(is_private, path.split("."))):
                    yield path
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr")
        ):
            name = node.args[1]
            if (
                isinstance(name, ast.Constant)
                and is_private(str(name.value))
                and name.value not in ours
            ):
                yield f"{ast.unparse(node.args[0])}.{name.value}"


@cache
def members(base: type) -> set[str]:
    """What instances of the class have by this class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
    except (OSError, TypeError):
        return set(vars(base))
    assigned = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    )
    return set(vars(base)) | {node.attr for node in assigned}


def names_in_class(tree: ast.ClassDef) -> set[str]:
    """Private names that a class of syncd defines, or uses of itself."""
    found = {node.name for node in tree.body if isinstance(node, FUNCTIONS)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_itself(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if is_private(name)}


def of_base_classes(trees: dict[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """(file, class and member) of each private member of a foreign base class that a class of syncd
    uses or overrides.
    """
    bodies = {
        ("syncd/" + file.removesuffix(".py").removesuffix("/__init__")).replace("/", "."): {
            node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
        }
        for file, tree in trees.items()
    }
    for file, (module, classes) in zip(trees, bodies.items(), strict=True):
        for name in classes:
            kind = getattr(importlib.import_module(module), name, None)
            if not isinstance(kind, type):
                continue  # it is in a function
            own = [
                base for base in kind.__mro__ if base.__name__ in bodies.get(base.__module__, {})
            ]
            used = {
                name
                for base in own
                for name in names_in_class(bodies[base.__module__][base.__name__])
            }
            theirs = {name for base in kind.__mro__ if base not in own for name in members(base)}
            yield from ((file, f"{name}.{one}") for one in sorted(used & theirs))


def private_members(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    ours = {name for tree in trees.values() for name in names_defined(tree)}
    return {(file, one) for file, tree in trees.items() for one in foreign_uses(tree, ours)} | set(
        of_base_classes(trees)
    )


def test_each_private_member_of_a_library_is_in_the_table() -> None:
    assert private_members(modules()) == set(EXCEPTIONS)


def test_each_exception_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())


def test_every_kind_of_use_is_found() -> None:
    text = """
import http.client._secret
from apscheduler.schedulers._base import Thing
from requests import _hidden
session._cookies = urllib3._pools[0]
getattr(session, "_trust")
session.public, __name__, _, self._ours
"""
    found = set(foreign_uses(ast.parse(text), {"_ours", "_cookies"}))
    assert found == {
        "http.client._secret",
        "apscheduler.schedulers._base.Thing",
        "requests._hidden",
        "urllib3._pools",
        "session._trust",
    }
