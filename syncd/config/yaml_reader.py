"""Reads YAML text into plain values, with the position of every one of them.

Scalars are those of YAML 1.2: only `true`, `false` and `null` are anything but text, so `on`, `no`,
`0644`, `12:30` and a commit id of digits stay what they look like. Aliases and merge keys are
expanded up to a bound. Everything that would make a reader slow or wrong is a Problem, never a
traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct, field
from msgspec.structs import replace

from syncd.errors import Problem
from syncd.trusted_path import TrustProblem, open_checked

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MAX_DEPTH = 50
MAX_TEXT_CHARACTERS = 400

Key = tuple[str | int, ...]


def _loader(base: type) -> Any:
    """Return a loader that composes nodes.

    It knows `true`, `false`, `null`, nothing (null) and `<<`, and takes all other scalars as text.
    """
    made: Any = type("_Loader", (base,), {"yaml_implicit_resolvers": {}})
    for kind, pattern, first in (
        ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("merge", "<<", "<"),
    ):
        made.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first)
        )
    return made


PURE = _loader(yaml.SafeLoader)
_LOADER = (
    _loader(yaml.CSafeLoader) if yaml.__with_libyaml__ else PURE
)  # libyaml is nine times as fast


class YamlDocument(Struct):
    """One file: its value, positions, lines and problems.

    `places` are the positions (line, column; from 1) of the values, `names` those of the keys.
    `doubts` says who else may write the file.
    """

    file: str
    value: Any = None
    places: dict[Key, tuple[int, int]] = field(default_factory=dict)
    names: dict[Key, tuple[int, int]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    content: bytes = b""
    doubts: list[TrustProblem] = field(default_factory=list)

    def problem(self, key: Key, text: str, place: tuple[int, int] | None = None) -> Problem:
        """Return a Problem at the key's position; a text that quotes a long value is shortened."""
        line, column = place or self.place(key)
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        if (
            len(text) > MAX_TEXT_CHARACTERS
        ):  # it quotes a value; what was expected follows at its end
            text = f"{text[: MAX_TEXT_CHARACTERS // 2]} … {text[-MAX_TEXT_CHARACTERS // 2 :]}"
        return Problem(self.file, line, column, key_text(key), text, source)

    def place(self, key: Key) -> tuple[int, int]:
        """Return the position of the key, or of the nearest value around it."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, (1, 1))


def key_text(key: Key) -> str:
    """Return the key as text, like `jobs.nginx.paths[0].to`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_document(path: Path) -> YamlDocument:
    """Read a file as values with positions.

    A mistake in the file as a whole is in `problems`, and the value is None then.
    """
    document = YamlDocument(str(path))
    try:
        descriptor, document.doubts = open_checked(path)
        with open(descriptor, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        document.problems.append(Problem(str(path), 0, 0, "", f"can't be read: {error.strerror}"))
        return document
    if len(raw) > MAX_BYTES:
        document.problems.append(
            Problem(
                str(path),
                0,
                0,
                "",
                f"is larger than {MAX_BYTES} bytes; a configuration never is",
            )
        )
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.problems.append(
            Problem(
                str(path), 1, 1, "", f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
            )
        )
        return document
    document.content = raw
    document.lines = text.split("\n")
    _compose(document, text)
    return document


def _compose(document: YamlDocument, text: str) -> None:
    try:
        _check_size(text)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None:
            document.problems.append(
                Problem(
                    document.file, 1, 1, "", "is empty; `syncd init` writes a first configuration"
                )
            )
            return
        document.value = _Builder(document).build(node, (), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found = document.problem((), f"is not YAML: {_sentence(error)}", place)
        tab = found.source_line[place[1] - 1 : place[1]] == "\t"
        document.problems.append(
            replace(found, text=f"{found.text}; indent with spaces, not tabs") if tab else found
        )
    except yaml.YAMLError as error:
        document.problems.append(
            Problem(document.file, 1, 1, "", f"is not YAML: {str(error).splitlines()[0]}")
        )
    except RecursionError:
        document.value = None
        document.problems.append(
            Problem(document.file, 1, 1, "", f"is nested deeper than {MAX_DEPTH} levels")
        )


def _check_size(text: str) -> None:
    """Raise YamlTooLarge where composing would take long or nest deep.

    Events come one by one, so this check itself takes neither time nor depth.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.AliasEvent)):
            count += 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > MAX_DEPTH + 1:
            raise YamlTooLarge(f"it is nested deeper than {MAX_DEPTH} levels")
        if count > MAX_VALUES:
            raise YamlTooLarge(f"it has more than {MAX_VALUES} values")


def _sentence(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


class YamlTooLarge(yaml.YAMLError):
    """The document has more values, or nests deeper, than a configuration ever does."""


class _Builder:
    def __init__(self, document: YamlDocument) -> None:
        self._document, self._nodes = document, 0

    def build(self, node: yaml.Node, key: Key, depth: int) -> Any:
        """Return the node's value, and record its position. Raises YamlTooLarge."""
        self._nodes += 1
        if self._nodes > MAX_VALUES:
            raise YamlTooLarge(f"its aliases expand to more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise YamlTooLarge(f"it is nested deeper than {MAX_DEPTH} levels")
        self._document.places.setdefault(
            key, (node.start_mark.line + 1, node.start_mark.column + 1)
        )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*key, index), depth + 1) for index, item in enumerate(node.value)
            ]
        if not node.tag.startswith("tag:yaml.org,2002:"):
            self._document.problems.append(
                self._document.problem(
                    key, f"the tag {node.tag} means nothing here; write the value plainly"
                )
            )
            return str(node.value)
        if node.tag.endswith(":bool"):
            return node.value.lower() == "true"
        if node.tag.endswith(":null"):
            return None
        return str(node.value)

    def _mapping(self, node: yaml.MappingNode, key: Key, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        seen: dict[str, int] = {}
        for name_node, value_node in node.value:
            place = (name_node.start_mark.line + 1, name_node.start_mark.column + 1)
            if name_node.tag.endswith(":merge"):
                merged += (
                    value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                )
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                self._document.problems.append(
                    self._document.problem(key, "a key must be plain text", place)
                )
                continue
            name = str(name_node.value)
            if name in seen:
                self._document.problems.append(
                    self._document.problem(
                        (*key, name),
                        f"'{name}' is given twice; the first is in line {seen[name]}",
                        place,
                    )
                )
                continue
            seen[name] = place[0]
            self._document.names[(*key, name)] = place
            self._document.places[(*key, name)] = place
            result[name] = self.build(value_node, (*key, name), depth + 1)
            self._document.places[(*key, name)] = self._value_place(value_node, place)
        for other in merged:
            extra = self.build(other, (*key, "<<"), depth + 1)
            if not isinstance(extra, dict):
                self._document.problems.append(
                    self._document.problem(
                        key,
                        "'<<' merges mappings only",
                        (other.start_mark.line + 1, other.start_mark.column + 1),
                    )
                )
                continue
            for name, value in extra.items():
                if name not in result:
                    result[name] = value
                    self._document.places.setdefault(
                        (*key, name),
                        self._document.places.get((*key, "<<", name), self._document.place(key)),
                    )
        return result

    @staticmethod
    def _value_place(node: yaml.Node, name_place: tuple[int, int]) -> tuple[int, int]:
        """Return the position for a mistake: a scalar's own, but a block's key."""
        if isinstance(node, yaml.ScalarNode) and node.value != "":
            return (node.start_mark.line + 1, node.start_mark.column + 1)
        return name_place


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` merged into `base`, key by key at every depth; lists are replaced whole."""
    result = dict(base)
    for key, value in over.items():
        have = result.get(key)
        result[key] = (
            merge(have, value) if isinstance(have, dict) and isinstance(value, dict) else value
        )
    return result


def without_nulls(value: Any) -> Any:
    """Return the value without keys that are null, which unsets them."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
