"""Caches the checked configuration: reading and checking YAML again costs half of what a run
imports.

What `load_cached` returns equals what checking these very bytes would give, under the same version,
environment and paths. The file holds names and paths of secrets, never secrets. Losing it costs
time only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct

from syncd import apply_rules, identities, models, policies
from syncd.cache_file import (
    cache_key,
    config_digest,
    find_default_config,
    guess_state,
    read_cache,
    read_config,
    write_cache,
)
from syncd.config import model
from syncd.config.model import Config

NAME = "config.json"
KINDS: dict[str, Any] = {
    name: kind
    for module in (apply_rules, identities, policies, models, model)
    for name, kind in vars(module).items()
    if isinstance(kind, type)
}
KIND, VALUE = "~", "="  # no name in a configuration holds these


def load_cached(path: str | None, environ: Mapping[str, str]) -> Config | None:
    """Return the configuration at `path` if these bytes were checked before, else None."""
    file = path or find_default_config(environ)
    if file is None:
        return None
    try:
        content = read_config(file)
        state = guess_state(content, file, environ)
        cached = read_cache(f"{state}/{NAME}")
        if cached["made_for"] == cache_key(file, content, environ, state):
            config = decoded(cached["value"])
            return config if isinstance(config, Config) and str(config.path) == file else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is none, it is damaged, or it is of another configuration
    return None


def save_cached(config: Config, environ: Mapping[str, str]) -> None:
    """Let the next `load_cached` of these bytes return `config`, if it is a single file."""
    file = str(config.path)
    with suppress(OSError):
        content = config.path.read_bytes()
        if config_digest(file, content) == config.digest:
            key = cache_key(file, content, environ, str(config.state))
            write_cache(str(config.state / NAME), {"made_for": key, "value": encoded(config)})


def encoded(value: Any) -> Any:
    """Return the value as JSON with the name of each type. Raises TypeError for another type."""
    if isinstance(value, Enum):
        return {KIND: type(value).__name__, VALUE: value.value}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return {KIND: "Path", VALUE: str(value)}
    if isinstance(value, datetime):
        return {KIND: "datetime", VALUE: value.isoformat()}
    if isinstance(value, Struct):
        return {
            KIND: type(value).__name__,
            VALUE: {name: encoded(getattr(value, name)) for name in value.__struct_fields__},
        }
    if isinstance(value, Mapping):
        return {name: encoded(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [encoded(item) for item in value]
    raise TypeError(f"a configuration holds no {type(value).__name__}")


def decoded(value: Any) -> Any:
    """Return what `encoded` was given. Raises KeyError, TypeError or ValueError for other input."""
    if isinstance(value, list):
        return tuple(decoded(item) for item in value)
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {name: decoded(item) for name, item in value.items()}
    if value[KIND] == "Path":
        return Path(value[VALUE])
    if value[KIND] == "datetime":
        return datetime.fromisoformat(value[VALUE])
    kind = KINDS[value[KIND]]
    return (
        kind(value[VALUE])
        if issubclass(kind, Enum)
        else kind(**{name: decoded(item) for name, item in value[VALUE].items()})
    )


__all__ = ["decoded", "encoded", "load_cached", "save_cached"]
