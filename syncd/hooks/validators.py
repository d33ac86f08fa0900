"""Checks whether every staged .json, .yaml, .toml and .xml file can be parsed.

It is a program of its own, `python validators.py YAML_FOLDER TREE NAME...`, and runs like any hook,
with the hook's user, time limit and end: nothing has approved these files yet, and some parsers
take quadratic time for hostile input. It checks syntax only: no alias or entity is expanded, no tag
is obeyed. Standard library and PyYAML only.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tomllib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable
from xml.parsers import expat

MAX_FILE_BYTES = 16 << 20
MAX_MEMORY_BYTES = 2 << 30  # of address space: 16 MiB of brackets need that as objects
MAX_NAMED = 10  # how many broken files are named one by one


class UnreadableFile(Exception):
    """Where and why a text can't be parsed."""


def _json(content: bytes) -> None:
    def refuse(word: str) -> None:
        """Refuse NaN and Infinity, which are no JSON."""
        raise UnreadableFile(f"{word} is not JSON")

    try:
        json.loads(
            content.decode("utf-8-sig"), parse_constant=refuse, parse_int=len, parse_float=len
        )
    except json.JSONDecodeError as error:
        raise UnreadableFile(f"line {error.lineno}, column {error.colno}: {error.msg}") from error


@runtime_checkable
class _Mark(Protocol):
    """A position, counted from 0; both of PyYAML's readers have one."""

    line: int
    column: int


def _position(mark: object) -> str:
    return (
        "" if not isinstance(mark, _Mark) else f"line {mark.line + 1}, column {mark.column + 1}: "
    )


def _yaml(content: bytes) -> None:
    """Check the events only, so that no alias is expanded and no tag is obeyed.

    An alias must name an anchor before it.
    """
    import yaml

    anchors: set[str] = set()
    try:
        for event in yaml.parse(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.DocumentStartEvent):
                anchors.clear()
            anchor = getattr(event, "anchor", None)
            if isinstance(event, yaml.AliasEvent) and anchor not in anchors:
                raise UnreadableFile(
                    f"{_position(event.start_mark)}*{anchor} has no &{anchor} before it"
                )
            if anchor is not None:
                anchors.add(anchor)
    except yaml.MarkedYAMLError as error:
        raise UnreadableFile(
            _position(error.problem_mark or error.context_mark) + (error.problem or "not YAML")
        ) from error
    except yaml.YAMLError as error:
        raise UnreadableFile(str(error).replace("\n", " ")) from error


def _toml(content: bytes) -> None:
    try:
        tomllib.loads(content.decode("utf-8"), parse_float=len)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableFile(str(error)) from error


def _xml(content: bytes) -> None:
    parser = expat.ParserCreate()

    def refuse(name: str, *_: object) -> None:
        """Refuse a declaration of an entity."""
        raise UnreadableFile(
            f"line {parser.CurrentLineNumber}: it declares the entity {name!r}, which is not read"
        )

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UnreadableFile(
            f"line {error.lineno}, column {error.offset + 1}: {expat.ErrorString(error.code)}"
        ) from error


READERS: dict[str, tuple[tuple[str, ...], Callable[[bytes], None]]] = {
    "json": ((".json",), _json),
    "yaml": ((".yaml", ".yml"), _yaml),
    "toml": ((".toml",), _toml),
    "xml": ((".xml",), _xml),
}


def find_problems(names: Sequence[str], tree: str) -> list[str]:
    """Return `/destination: where and why` for each file that can't be parsed.

    Every file below the tree with a suffix of these checks is read. Links are not followed.
    """
    wanted = {suffix: READERS[name][1] for name in names for suffix in READERS[name][0]}
    found = []
    for place, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted(files):
            read, path = wanted.get(os.path.splitext(name)[1].lower()), os.path.join(place, name)
            problem = (
                _problem(path, read) if read is not None and not os.path.islink(path) else None
            )
            if problem is not None:
                found.append(f"{path[len(tree.rstrip('/')) :]}: {problem}")
    return found


def _problem(path: str, read: Callable[[bytes], None]) -> str | None:
    with open(path, "rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        return f"larger than the {MAX_FILE_BYTES >> 20} MiB that a built-in check reads"
    try:
        read(content)
    except UnreadableFile as error:
        return str(error)
    except UnicodeDecodeError as error:
        return f"byte {error.start}: not UTF-8"
    except (RecursionError, MemoryError):
        return "nested too deeply, or too much to read"
    return None


def main(where_yaml_is: str, tree: str, *names: str) -> int:
    """Print the problems of the tree; return 1 if there are any. PyYAML is in `where_yaml_is`."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    sys.path.append(where_yaml_is)
    broken = find_problems(names, tree)
    for line in broken[:MAX_NAMED]:
        # its answer
        print(line.encode(errors="surrogateescape").decode(errors="replace"))  # noqa: T201
    if len(broken) > MAX_NAMED:
        print(f"and {len(broken) - MAX_NAMED} more")  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
