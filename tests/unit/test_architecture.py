"""The picture of the ctx: who may import whom, how long a page is, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "syncd").rglob("*.py"))
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "config.example.yaml",
    "constraints.txt",
    "dev",
    "constraints-hashed.txt",
    "packaging",
    "docs",
    "migrations",
    "pyproject.toml",
    "syncd",
    "systemd",
    "tests",
}
LONG_WITH_A_REASON: dict[str, str] = {}
ONLY_THERE = {
    "urllib3": {
        "github/exchange.py",
        "github/transport.py",
        "github/sessions.py",
        "github/network_errors.py",
        "github/connections.py",
    },
    "requests": {"github/transport.py", "github/sessions.py", "github/network_errors.py"},
    "yaml": {"config/yaml_reader.py", "hooks/validators.py", "hooks/runner.py"},
    "pydantic": {
        "config/schema.py",
        "config/identity_schema.py",
        "config/web_schema.py",
        "config/fleet_schema.py",
        "config/strict_model.py",
        "config/field_types.py",
        "config/load.py",
    },
    "sqlalchemy": {
        f"{path.parent.name}/{path.name}"
        for path in MODULES
        if path.parent.name in ("store", "fleet")
    },
    "alembic": {"store/migrate.py", "fleet/migrate.py"},
    "psycopg": {f"fleet/{path.name}" for path in MODULES if path.parent.name == "fleet"},
    "jwt": None,
}


def in_the_repository() -> list[str]:
    return list(
        filter(
            None,
            subprocess.run(
                ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
            ).stdout.split("\0"),
        )
    )


def part(module: str) -> str:
    """Return what the picture calls a module: its package,
    or its own name at the top and in `fastpath`.
    """
    names = module.split(".")[1:]
    return ".".join(names[:2]) if names[0] == "fastpath" else names[0]


def name_of(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return ".".join(relative.parts).removesuffix(".__init__")


@cache
def picture() -> list[list[str]]:
    """Return the rows of docs/architecture.md, the lowest last."""
    page = (ROOT / "docs/architecture.md").read_text()
    block = page.partition("```text\n")[2].partition("```")[0]
    return [line.split(" · ") for line in block.splitlines()]


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@cache
def known() -> frozenset[str]:
    return frozenset(name_of(path) for path in MODULES)


def ours(path: Path) -> frozenset[str]:
    """Return the modules of syncd that a module imports, also for type checks only."""
    return (imports(path) & known()) - {"syncd", name_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    if name_of(path) == "syncd":
        return
    level = {name: number for number, row in enumerate(picture()) for name in row}
    mine = part(name_of(path))
    for name in ours(path):
        theirs = part(name)
        if theirs not in ("fastpath", mine):
            assert level[theirs] > level[mine], f"{path.name} imports {name}"


def test_every_module_is_in_the_picture_once() -> None:
    drawn = [name for row in picture() for name in row]
    there = {part(name_of(path)) for path in MODULES if name_of(path) != "syncd"} - {"fastpath"}
    assert sorted(drawn) == sorted(there)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name_of(path): ours(path) for path in MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name in done:
            return
        for other in graph[name]:
            visit(other, (*way, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_read_in_one_sitting_and_opens_with_what_it_promises(path: Path) -> None:
    text = path.read_text()
    relative = str(path.relative_to(ROOT / "syncd"))
    assert len(text.splitlines()) <= 450 or relative in LONG_WITH_A_REASON
    if text.strip():
        assert ast.get_docstring(syntax_tree(path)), f"{relative} has no opening paragraph"


def test_only_one_module_speaks_to_the_network_and_only_the_configuration_has_seen_yaml() -> None:
    for path in MODULES:
        relative = str(path.relative_to(ROOT / "syncd"))
        for name in imports(path):
            allowed = ONLY_THERE.get(name.split(".")[0])
            assert allowed is None or relative in allowed, f"{relative} imports {name}"


def test_below_wiring_nobody_reads_the_environment_or_asks_for_the_time() -> None:
    for path in MODULES:
        if name_of(path) == "syncd" or part(name_of(path)) in (
            "cli",
            "wiring",
            "clock",
            "simulator",
            "daemon",
            "web",
            "__main__",
        ):
            continue
        text = path.read_text()
        assert "os.environ" not in text and "getenv" not in text, path
        assert not re.search(
            r"datetime\.now\((?!\)\.astimezone)|time\.time\(\)(?! - STALE)", text
        ) or path.name in ("store.py", "blobs.py"), path


WRITES = re.compile(
    r"\b(?:click\.(?:echo|secho|style|prompt|confirm|pause|clear|edit)|sys\.(?:stdout|stderr)\.write|print)\("
)
OUTPUT_LAYER = {
    "output.py": "the output layer itself",
    "encoding.py": "one constant message, before anything else can be loaded",
    "hooks/supervisor.py": "a program of its own: its output is an answer that syncd reads",
    "hooks/validators.py": "a program of its own: its output is an answer that syncd reads",
}


def test_only_the_output_layer_writes_to_the_terminal() -> None:
    assert (
        WRITES.search("click.echo(x)")
        and WRITES.search("print(x)")
        and not WRITES.search("footprint(x)")
    )
    for path in MODULES:
        relative = str(path.relative_to(ROOT / "syncd"))
        text = re.sub(r'"[^"\n]*"', '""', path.read_text())  # a text may name any of them
        assert relative in OUTPUT_LAYER or WRITES.search(text) is None, relative


def test_the_run_page_and_the_planner_are_short() -> None:
    assert len((ROOT / "syncd/engine/plan.py").read_text().splitlines()) <= 240
    for node in ast.walk(ast.parse((ROOT / "syncd/engine/run.py").read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 30, node.name


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    listed = in_the_repository()
    hosts = re.compile("py" + r"pi\.org|python" + r"hosted|registry\.np" + r"mjs|deb\.deb" + "ian")
    for name in listed:
        file = ROOT / name
        if file.is_file():
            assert not hosts.search(file.read_text(errors="replace")), name
    assert not (ROOT / "uv.lock").exists() or "uv.lock" not in listed


def test_the_top_level_holds_what_it_is_meant_to_and_no_file_is_large() -> None:
    listed = in_the_repository()
    assert {name.split("/")[0] for name in listed} <= TOP_LEVEL
    for name in listed:
        if (ROOT / name).is_file():
            assert (ROOT / name).stat().st_size < 500_000, (
                f"{name}: nothing that is built or downloaded belongs into the repository"
            )
