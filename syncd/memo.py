"""The configuration as it was judged, kept beside the store: reading and judging YAML again costs half of what a run imports.

Promises: what `recall` gives is what judging these very bytes would give, under the same version, variables and places. Holds names and
places of secrets, never secrets. Losing it costs time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct

from syncd import models, quick
from syncd.config import model
from syncd.config.model import Config

NAME = "config.json"
KINDS: dict[str, Any] = {name: kind for module in (models, model) for name, kind in vars(module).items() if isinstance(kind, type)}
KIND, VALUE = "~", "="  # no name in a configuration holds these


def recall(path: str | None, environ: Mapping[str, str]) -> Config | None:
    """The configuration at `path`, when it was judged before."""
    place = path or quick.usual_config(environ)
    if place is None:
        return None
    try:
        content = quick.read_judged(place, quick.LARGEST_NOTE)
        state = quick.state_of(content, place, environ)
        memo = quick.read(f"{state}/{NAME}")
        if memo["of"] == _of(place, content, environ, state):
            found = decoded(memo["config"])
            return found if isinstance(found, Config) and str(found.path) == place else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, a damaged one, or one of another configuration: it is judged anew
    return None


def remember(config: Config, environ: Mapping[str, str]) -> None:
    """The next `recall` of these bytes gives `config`. A configuration of several files is not kept."""
    with suppress(OSError):
        content = config.path.read_bytes()
        if quick.content_digest(str(config.path), content) == config.digest:
            value = {"written_by": quick.written_by(), "of": _of(str(config.path), content, environ, str(config.state)), "config": encoded(config)}
            quick.write(str(config.state / NAME), value)


def _of(path: str, content: bytes, environ: Mapping[str, str], state: str) -> list[Any]:
    return [quick.configuration(path, content), quick.environment(environ), state, os.path.realpath(state)]


def encoded(value: Any) -> Any:
    """The value as JSON holds it, each kind named. Raises TypeError for a kind that no configuration has."""
    if isinstance(value, Enum):
        return {KIND: type(value).__name__, VALUE: value.value}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return {KIND: "Path", VALUE: str(value)}
    if isinstance(value, Struct):
        return {KIND: type(value).__name__, VALUE: {name: encoded(getattr(value, name)) for name in value.__struct_fields__}}
    if isinstance(value, Mapping):
        return {name: encoded(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [encoded(item) for item in value]
    raise TypeError(f"a configuration holds no {type(value).__name__}")


def decoded(value: Any) -> Any:
    """What `encoded` was given. Raises KeyError, TypeError or ValueError for what it never gave."""
    if isinstance(value, list):
        return tuple(decoded(item) for item in value)
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {name: decoded(item) for name, item in value.items()}
    if value[KIND] == "Path":
        return Path(value[VALUE])
    kind = KINDS[value[KIND]]
    return kind(value[VALUE]) if issubclass(kind, Enum) else kind(**{name: decoded(item) for name, item in value[VALUE].items()})


__all__ = ["decoded", "encoded", "recall", "remember"]
