"""The GraphQL API, as far as heads need it: repositories, refs and what they name.

A query is parsed and executed as the specification has it, so that a client's mistake is noticed:
an unknown field is refused, an error about one alias leaves the others. It costs one point, as a
query without connections does.

Source: GitHub docs, "Rate limits and query limits for the GraphQL API"; octokit/graphql-schema;
recorded answers for the texts of errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from syncd.simulator import responses
from syncd.simulator.accounts import ApiError
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Repository
from syncd.simulator.request import SimRequest
from syncd.simulator.state import SimulatorState

TOKEN = re.compile(r'\.\.\.|\$?[A-Za-z_]\w*|"(?:\\.|[^"\\])*"|[{}():!]|[^\s,]')
NOT_SIGNED_IN = "This endpoint requires you to be authenticated."


class QueryError(Exception):
    """The query as a whole is refused."""


class Field(Struct):
    """One field of a selection. `on` is the type that an inline fragment names."""

    alias: str
    name: str
    arguments: dict[str, str] = field(default_factory=dict)
    selected: list[Field] = field(default_factory=list)
    on: str | None = None


class _Parser:
    """A parser of operations with variables, fields, arguments and fragments."""

    def __init__(self, text: str, variables: Mapping[str, Any]) -> None:
        self._tokens: list[str] = TOKEN.findall(text)
        self._variables = variables
        self._fragments: dict[str, Field] = {}

    def parse(self) -> list[Field]:
        """Return what the operation selects. Raises QueryError for what can't be read."""
        try:
            self._skip_declarations()
            selected = self._selection()
            while self._tokens:
                self._fragment()
        except IndexError as error:
            raise QueryError("Expected NAME, actual: (none)") from error
        return self._inlined(selected)

    def _next(self, expected: str | None = None) -> str:
        found = self._tokens.pop(0)
        if expected is not None and found != expected:
            raise QueryError(f"Parse error on {found!r}, expected {expected!r}")
        return found

    def _skip_declarations(self) -> None:
        if self._tokens[0] == "query":
            self._next()
        if self._tokens[0] == "(":
            while self._next() != ")":
                pass

    def _fragment(self) -> None:
        self._next("fragment")
        name = self._next()
        self._next("on")
        self._fragments[name] = Field("", "", on=self._next(), selected=self._selection())

    def _selection(self) -> list[Field]:
        self._next("{")
        found = []
        while self._tokens[0] != "}":
            found.append(self._field())
        self._next("}")
        return found

    def _field(self) -> Field:
        name = self._next()
        if name == "...":
            if self._tokens[0] != "on":
                return Field("...", self._next())
            self._next()
            return Field("", "", on=self._next(), selected=self._selection())
        alias = name
        if self._tokens[0] == ":":
            self._next()
            name = self._next()
        made = Field(alias, name)
        if self._tokens[0] == "(":
            self._next()
            while self._tokens[0] != ")":
                argument = self._next()
                self._next(":")
                made.arguments[argument] = self._value(self._next())
            self._next()
        if self._tokens[0] == "{":
            made.selected = self._selection()
        return made

    def _value(self, token: str) -> str:
        if token.startswith('"'):
            return str(json.loads(token))
        name = token.removeprefix("$")
        value = self._variables.get(name)
        if not token.startswith("$") or not isinstance(value, str):
            raise QueryError(f"Variable ${name} of type String! was provided invalid value")
        return value

    def _inlined(self, selected: list[Field]) -> list[Field]:
        found = []
        for one in selected:
            if one.alias == "...":
                if one.name not in self._fragments:
                    raise QueryError(f"Fragment {one.name} was used, but not defined")
                one = self._fragments[one.name]
            kept = Field(one.alias, one.name, one.arguments, self._inlined(one.selected), one.on)
            found.append(kept)
        return found


def answer(state: SimulatorState, request: SimRequest) -> Answer:
    """Return the answer to one query, with an error for each alias that has none."""
    if request.who is None:
        raise ApiError(401, NOT_SIGNED_IN)
    try:
        asked = json.loads(request.body)
        selected = _Parser(asked["query"], asked.get("variables") or {}).parse()
        return _executed(state, request, selected)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(400, "Problems parsing JSON") from error
    except QueryError as error:
        return responses.as_json({"errors": [{"message": str(error)}]})


def _executed(state: SimulatorState, request: SimRequest, selected: list[Field]) -> Answer:
    data: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    for one in selected:
        if one.name != "repository":
            raise QueryError(f"Field '{one.name}' doesn't exist on type 'Query'")
        try:
            found = _repository(state, request, one)
        except ApiError as error:
            kind = "NOT_FOUND" if error.status == 404 else "FORBIDDEN"
            where = {"path": [one.alias], "locations": [{"line": 1, "column": 1}]}
            errors.append({"type": kind, **where, "message": error.message})
            data[one.alias] = None
        else:
            data[one.alias] = _chosen(found, one.selected)
    return responses.as_json({"data": data, **({"errors": errors} if errors else {})})


def _repository(state: SimulatorState, request: SimRequest, asked: Field) -> Mapping[str, Any]:
    """Return the repository, also under a former name. Raises ApiError where none is visible."""
    name = f"{asked.arguments['owner']}/{asked.arguments['name']}"
    repo = state.repos.get(name.lower())
    if repo is None and name.lower() in state.renamed:
        repo = state.find_renamed(name.lower())
    if repo is None or not state.accounts.can_read(request.who, repo, "contents"):
        raise ApiError(404, f"Could not resolve to a Repository with the name '{name}'.")
    wanted = [one for one in asked.selected if one.name in ("ref", "defaultBranchRef")]
    found: dict[str, Any] = {
        "__typename": "Repository",
        "databaseId": repo.id,
        "nameWithOwner": repo.full_name,
    }
    for one in wanted:
        default = f"refs/heads/{repo.default_branch}"
        ref = _ref(repo, one.arguments.get("qualifiedName", default))
        found[one.alias] = ref
    return found


def _ref(repo: Repository, qualified: str) -> Mapping[str, Any] | None:
    refs = {**repo.refs, **repo.lagging}
    if qualified not in refs:
        return None
    space, _, name = qualified.removeprefix("refs/").partition("/")
    target: dict[str, Any] = {"__typename": "Commit", "oid": refs[qualified]}
    tag = repo.tags.get(refs[qualified])
    if tag is not None:
        commit = {"__typename": "Commit", "oid": tag.commit}
        target = {"__typename": "Tag", "oid": refs[qualified], "target": commit}
    return {"__typename": "Ref", "prefix": f"refs/{space}/", "name": name, "target": target}


def _chosen(found: Mapping[str, Any], selected: list[Field]) -> dict[str, Any]:
    """Return the selected fields of an object. Raises QueryError for one that it does not have."""
    kept: dict[str, Any] = {}
    for one in selected:
        if one.on is not None:
            if one.on == found["__typename"]:
                kept |= _chosen(found, one.selected)
            continue
        name = one.alias if one.alias in found else one.name
        if name not in found:
            raise QueryError(f"Field '{name}' doesn't exist on type '{found['__typename']}'")
        value = found[name]
        kept[one.alias] = _chosen(value, one.selected) if isinstance(value, dict) else value
    return kept
