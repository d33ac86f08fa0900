"""The checks that need no command: is every staged .json, .yaml, .toml and .xml file one that can be read at all?

Syntax only. A hostile file costs what its size costs: nothing is expanded, no entity, no alias, and nothing is made of it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable
from xml.parsers import expat

import yaml

from syncd.engine.ports import HookEnd, StagedFile
from syncd.models import Kind

LARGEST_BYTES = 64 << 20
NAMED = 10  # how many broken files are named one by one


class Broken(Exception):
    """Where and why a text can't be read."""


def _json(content: bytes) -> None:
    def refuse(word: str) -> None:
        raise Broken(f"{word} is not JSON")

    try:
        json.loads(content.decode("utf-8-sig"), parse_constant=refuse, parse_int=len, parse_float=len)
    except json.JSONDecodeError as error:
        raise Broken(f"line {error.lineno}, column {error.colno}: {error.msg}") from error


@runtime_checkable
class _Mark(Protocol):
    """Where the reader stands, counted from 0; both of PyYAML's readers have one."""

    line: int
    column: int


def _place(mark: object) -> str:
    return "" if not isinstance(mark, _Mark) else f"line {mark.line + 1}, column {mark.column + 1}: "


def _yaml(content: bytes) -> None:
    """Events only: no value is made, so no alias is expanded and no tag is obeyed. Aliases must name an anchor before them."""
    anchors: set[str] = set()
    try:
        for event in yaml.parse(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.DocumentStartEvent):
                anchors.clear()
            anchor = getattr(event, "anchor", None)
            if isinstance(event, yaml.AliasEvent) and anchor not in anchors:
                raise Broken(f"{_place(event.start_mark)}*{anchor} has no &{anchor} before it")
            if anchor is not None:
                anchors.add(anchor)
    except yaml.MarkedYAMLError as error:
        raise Broken(_place(error.problem_mark or error.context_mark) + (error.problem or "not YAML")) from error
    except yaml.YAMLError as error:
        raise Broken(str(error).replace("\n", " ")) from error


def _toml(content: bytes) -> None:
    try:
        tomllib.loads(content.decode("utf-8"), parse_float=len)
    except tomllib.TOMLDecodeError as error:
        raise Broken(str(error)) from error


def _xml(content: bytes) -> None:
    parser = expat.ParserCreate()

    def refuse(name: str, *_: object) -> None:
        raise Broken(f"line {parser.CurrentLineNumber}: it declares the entity {name!r}, which is not read")

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise Broken(f"line {error.lineno}, column {error.offset + 1}: {expat.ErrorString(error.code)}") from error


READERS: dict[str, tuple[tuple[str, ...], Callable[[bytes], None]]] = {
    "json": ((".json",), _json),
    "yaml": ((".yaml", ".yml"), _yaml),
    "toml": ((".toml",), _toml),
    "xml": ((".xml",), _xml),
}


def check(names: Sequence[str], files: Sequence[StagedFile]) -> HookEnd:
    """Status 0 when every file with a suffix of these checks can be read; else 1, and the output names each broken one with its place."""
    broken = []
    for file in files:
        for name in names:
            suffixes, read = READERS[name]
            if file.kind is Kind.FILE and file.path.lower().endswith(suffixes):
                problem = _problem(file, read)
                if problem is not None:
                    broken.append(f"{file.path}: {problem}")
    more = [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
    return HookEnd(status=1 if broken else 0, output="\n".join([*broken[:NAMED], *more]))


def _problem(file: StagedFile, read: Callable[[bytes], None]) -> str | None:
    with file.open() as opened:
        content = opened.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        return f"larger than the {LARGEST_BYTES >> 20} MiB that a built-in check reads"
    try:
        read(content)
    except Broken as error:
        return str(error)
    except UnicodeDecodeError as error:
        return f"byte {error.start}: not UTF-8"
    except RecursionError:
        return "nested too deeply"
    return None
