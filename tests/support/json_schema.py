"""As much of JSON Schema (draft 2020-12) as syncd's own schema uses;
a word it does not know is an error, not a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
SAID_ONLY = {"$schema", "$defs", "title", "description", "default", "format"}
WITHIN = {"properties", "patternProperties", "additionalProperties"}


def mistakes(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, at: str = ""
) -> Iterator[str]:
    """Every reason why the value is not what the schema describes."""
    root = schema if root is None else root
    for word, wanted in schema.items():
        if word in SAID_ONLY or word in WITHIN:
            continue
        if word == "$ref":
            yield from mistakes(value, root["$defs"][wanted.removeprefix("#/$defs/")], root, at)
        elif word == "anyOf":
            if all(any(True for _ in mistakes(value, one, root, at)) for one in wanted):
                yield f"{at}: none of the allowed shapes"
        elif word == "propertyNames":
            for name in value if isinstance(value, dict) else ():
                yield from mistakes(name, wanted, root, f"{at}.{name}")
        elif word == "items":
            for index, item in enumerate(value) if isinstance(value, list) else ():
                yield from mistakes(item, wanted, root, f"{at}[{index}]")
        elif not _fits(word, wanted, value):
            yield f"{at}: {value!r} is not {word} {wanted!r}"
    if isinstance(value, dict) and WITHIN & schema.keys():
        yield from _inside(value, schema, root, at)


def _inside(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    for name, item in value.items():
        shapes = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        shapes += [
            shape
            for pattern, shape in schema.get("patternProperties", {}).items()
            if re.search(pattern, name)
        ]
        other = schema.get("additionalProperties", True)
        if not shapes and other is False:
            yield f"{at}.{name}: unknown"
        for shape in shapes or ([other] if isinstance(other, dict) else []):
            yield from mistakes(item, shape, root, f"{at}.{name}")


def _fits(word: str, wanted: Any, value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match word:
        case "type":
            names = wanted if isinstance(wanted, list) else [wanted]
            return any(
                isinstance(value, TYPES[name])
                and (name == "boolean" or not isinstance(value, bool))
                for name in names
            )
        case "enum":
            return any(
                value == one and isinstance(value, bool) == isinstance(one, bool) for one in wanted
            )
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
        case "minimum":
            return not number or value >= wanted
        case "maximum":
            return not number or value <= wanted
        case "minLength":
            return not isinstance(value, str) or len(value) >= wanted
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "minProperties":
            return not isinstance(value, dict) or len(value) >= wanted
        case "required":
            return not isinstance(value, dict) or all(name in value for name in wanted)
    raise ValueError(f"this checker does not know {word}")
