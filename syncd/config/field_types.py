"""Defines the types of the configuration's fields, for pydantic and for editors.

Each type is checked by a function of ours, whose messages are for people. The JSON Schema beside it
is what editors are given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from syncd.config import commands, value_types
from syncd.identities import SecretRef
from syncd.models import Hook
from syncd.text import did_you_mean


def validated(check: Callable[[Any], Any], **shape: Any) -> BeforeValidator:
    """Return a validator that calls our own function; `shape` is its JSON Schema, for editors."""
    return BeforeValidator(check, json_schema_input_type=Annotated[Any, WithJsonSchema(shape)])


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"'{value}' is not true or false")


def whole_number(low: int, high: int) -> BeforeValidator:
    """Return a validator for a whole number between `low` and `high`."""

    def check(value: Any) -> int:
        """Return the number. Raises ValueError."""
        if (
            not isinstance(value, str)
            or not re.fullmatch(r"\d{1,18}", value)
            or not low <= int(value) <= high
        ):
            shown = (
                f"'{value[:40]}'"
                if isinstance(value, str)
                else str(value).lower()
                if isinstance(value, bool)
                else "a block"
            )
            raise ValueError(f"{shown} is not a whole number from {low} to {high}")
        return int(value)

    return validated(
        check, type=["integer", "string"], minimum=low, maximum=high, pattern=r"^[0-9]{1,18}$"
    )


def one_of(*names: str) -> BeforeValidator:
    """Return a validator for one of these names."""

    def check(value: Any) -> Any:
        """Return the value. Raises ValueError."""
        if value not in names:
            raise ValueError(
                f"'{str(value)[:40]}' is not one of {', '.join(names)}"
                + did_you_mean(str(value), names)
            )
        return value

    return validated(check, enum=[str(name) for name in names])


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            "the value must be text" + ("; write it in quotes" if isinstance(value, bool) else "")
        )
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("the value has a control character in it")
    return value


NAME = {"type": "string", "minLength": 1}
SECRET = [
    {"type": "string", "pattern": "^/"},
    *(
        {
            "type": "object",
            "properties": {kind: NAME},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind in ("credential", "file", "env")
    ),
]
CHECK = {"enum": list(commands.CHECKS)}
COMMAND = [
    NAME,
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
    {
        "type": "object",
        "properties": {"shell": NAME},
        "required": ["shell"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {
            "check": {"anyOf": [CHECK, {"type": "array", "items": CHECK, "minItems": 1}]}
        },
        "required": ["check"],
        "additionalProperties": False,
    },
]
DURATION = r"^(?=.)(\d{1,6}w)?(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?(\d{1,6}s)?$"

# text that an editor's YAML takes for a number is text here
Text = Annotated[str, validated(_plain, type=["string", "number"])]
Flag = Annotated[bool, validated(_boolean, type="boolean")]
Duration = Annotated[
    float, validated(value_types.positive_duration, type="string", pattern=DURATION)
]
AnyDuration = Annotated[float, validated(value_types.duration, type="string", pattern=DURATION)]
DateOrTime = Annotated[
    str,
    validated(
        value_types.date_or_time, type="string", pattern=f"^{value_types.DATE_OR_TIME.pattern}$"
    ),
]
Mode = Annotated[int, validated(value_types.mode, type="string", pattern="^0?0?[0-7]{3}$")]
Owner = Annotated[str, validated(value_types.owner, type=["string", "number"])]
Size = Annotated[
    int,
    validated(
        value_types.size, type=["string", "integer"], pattern=r"^\d{1,15}\s*[A-Za-z]*$", minimum=0
    ),
]
DeleteLimit = Annotated[
    tuple[float | None, int | None],
    validated(
        value_types.delete_limit,
        type=["string", "integer"],
        pattern=r"^\d{1,9}$|^(\d{1,2}|100)%$",
        minimum=0,
    ),
]
Share = Annotated[float, validated(value_types.share, type="string", pattern=r"^(\d{1,2}|100)%$")]
SecretHere = Annotated[SecretRef, validated(value_types.secret, anyOf=SECRET)]
Command = Annotated[Hook, validated(commands.hook, anyOf=COMMAND)]
AppId = Annotated[
    int,
    validated(
        value_types.app_id,
        type=["integer", "string"],
        minimum=1,
        maximum=10**12,
        pattern=r"^[0-9]{1,18}$",
    ),
]
ClientId = Annotated[str, validated(value_types.client_id, type=["string", "number"])]
Patterns = Annotated[tuple[str, ...], validated(value_types.patterns, type="array", items=NAME)]
