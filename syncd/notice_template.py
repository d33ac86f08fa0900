"""Templates of notifications: Jinja in a sandbox, with the fields of the message as its variables.

A template gives the text of a message, or the whole body where it gives a JSON object, for chat
systems with a format of their own. It reads no file and calls no code. Pure: no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_RESULT_CHARACTERS = 16 << 10

# A message as it is sent, for `syncd check`; every key that a message has.
SAMPLE: Mapping[str, Any] = {
    "schema": "syncd.notice/1",
    "id": "2f1c3e4d5a6b7c8d",
    "event": "failed",
    "text": "syncd on web01: nginx failed: nginx -t exited with 1",
    "host": "web01",
    "job": "nginx",
    "repo": "acme/infra",
    "ref": "main",
    "commit": "1f0c9d2a3b4c5d6e7f8091a2b3c4d5e6f7a8b9c0",
    "author": "Ada Lovelace",
    "subject": "Raise the limit of uploads",
    "status": "failed",
    "drifted": 0,
    "changes": 2,
    "files": ["/etc/nginx/nginx.conf", "/etc/nginx/sites/a.conf"],
    "until": None,
    "remedy": "correct the file and push again",
    "at": "2026-11-24T12:00:00Z",
    "error": {"kind": "hook", "message": "nginx -t exited with 1", "hint": "correct the file"},
}


class TemplateError(ValueError):
    """The template can't be rendered; the text says why and where."""


def render(template: str, message: Mapping[str, Any]) -> str:
    """Return the body to post: the message with the rendered text, or the object rendered.

    Raises TemplateError.
    """
    result = _rendered(template, message)
    try:
        value = json.loads(result)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return json.dumps(value)
    return json.dumps({**message, "text": result.strip()})


def mistake_in(template: str) -> str | None:
    """Return why the template can't be rendered for a message, or None."""
    for error in (SAMPLE["error"], None):
        try:
            render(template, {**SAMPLE, "error": error})
        except TemplateError as mistake:
            return str(mistake)
    return None


def _rendered(template: str, message: Mapping[str, Any]) -> str:
    from jinja2 import StrictUndefined
    from jinja2 import TemplateError as JinjaError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
    )
    parts, length = [], 0
    try:
        for part in environment.from_string(template).generate(**message):
            parts.append(part)
            length += len(part)
            if length > MAX_RESULT_CHARACTERS:
                raise TemplateError(f"it gives more than {MAX_RESULT_CHARACTERS} characters")
    except JinjaError as error:
        line = getattr(error, "lineno", None)
        raise TemplateError(f"{error.message}" + (f" (line {line})" if line else "")) from error
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        KeyError,
        OverflowError,
    ) as error:
        if isinstance(error, TemplateError):
            raise
        raise TemplateError(f"{type(error).__name__}: {error}") from error
    return "".join(parts)
