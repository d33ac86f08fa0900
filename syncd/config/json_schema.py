"""Makes the configuration's JSON Schema (draft 2020-12) from the models, for editors.

It accepts whatever `load_config` accepts as one file, and refuses unknown keys and wrong shapes. It
does not check what several keys mean together; `syncd check` does. docs/config.schema.json holds
this module's output; a test keeps it so.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from syncd.config.load import NAME_PATTERN
from syncd.config.schema import ConfigModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Shape = dict[str, Any]


def schema_text() -> str:
    """Return the content of docs/config.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def json_schema() -> Shape:
    """Return the schema of one file.

    The models describe a whole configuration; in a file, keys may come from `defaults`, and `null`
    unsets any of them.
    """
    made = ConfigModel.model_json_schema()
    shapes: dict[str, Shape] = made["$defs"]
    job = shapes["JobModel"]
    job["required"] = ["paths"]  # all else that is required may come from `defaults`
    defaults = shapes["DefaultsModel"] = copy.deepcopy(job)
    del defaults["properties"]["paths"], defaults["required"]
    made["properties"]["defaults"] = {"$ref": "#/$defs/DefaultsModel"}
    for section in ("github", "jobs"):
        made["properties"][section]["propertyNames"] = {"pattern": f"^{NAME_PATTERN}$"}
    made["patternProperties"] = {"^x-": {}}
    for shape in (made, *shapes.values()):
        required = shape.get("required", ())
        shape["properties"] = {
            name: _said(one) if name in required else _or_null(_said(one))
            for name, one in shape["properties"].items()
        }
        del shape["title"], shape["description"]  # the latter is the model's docstring
    return {"$schema": DIALECT, "title": "syncd's configuration", **made}


def _said(shape: Shape) -> Shape:
    """Return the schema without pydantic's titles and converted defaults.

    The models hold those defaults in seconds, bits and bytes, which is not how they are written.
    """
    default = shape.get("default")
    written = isinstance(default, (str, bool)) or (
        isinstance(default, int)
        and "integer" in shape.get("type", ())
        and "string" in shape["type"]
        and "pattern" in shape
    )
    return {
        key: value
        for key, value in shape.items()
        if key != "title" and (key != "default" or written)
    }


def _or_null(shape: Shape) -> Shape:
    kind = shape.get("type")
    if "enum" in shape:
        return {**shape, "enum": [*shape["enum"], None]}
    if kind is not None:
        return {**shape, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
    if "anyOf" in shape:
        return (
            shape
            if {"type": "null"} in shape["anyOf"]
            else {**shape, "anyOf": [*shape["anyOf"], {"type": "null"}]}
        )
    return {"anyOf": [shape, {"type": "null"}]}
