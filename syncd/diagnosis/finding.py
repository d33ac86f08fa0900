"""One finding of a check, and the exit code of many. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from msgspec import Struct

from syncd.errors import ConfigError, SyncdError


class Level(StrEnum):
    """How bad a finding is. A warning does not keep a run from its work."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True):
    """One line of the output.

    `id` is stable: docs/doctor.md or docs/errors.md has it. `subject` is one word for what was
    checked, `hint` says what to type or to change. `exit_code` counts only for an error.
    """

    id: str
    level: Level
    subject: str
    message: str
    hint: str | None = None
    exit_code: int = 0


def ok(id: str, subject: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(id, Level.OK, subject, message)


def warning(id: str, subject: str, message: str, hint: str | None = None) -> Finding:
    """Return a finding that the operator should know of."""
    return Finding(id, Level.WARNING, subject, message, hint)


def error(
    id: str, subject: str, message: str, hint: str | None = None, exit_code: int = 1
) -> Finding:
    """Return a finding that keeps a run from its work."""
    return Finding(id, Level.ERROR, subject, message, hint, exit_code)


def from_error(subject: str, failure: SyncdError, about: str = "") -> Finding:
    """Return the finding that a failed request or file means; `about` begins the message."""
    message = f"{about}: {failure.message}" if about else failure.message
    return error(failure.id, subject, message, failure.hint, failure.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the exit code of all findings.

    That of a mistake in the configuration comes first, as other errors may follow from it. Else it
    is the code that all errors share, or 1.
    """
    codes = {one.exit_code for one in findings if one.level is Level.ERROR}
    if not codes:
        return 0
    if ConfigError.exit_code in codes:
        return ConfigError.exit_code
    return codes.pop() if len(codes) == 1 else 1


def as_json(findings: Iterable[Finding], requests: int) -> dict[str, Any]:
    """Return the object that `doctor --json` prints."""
    found = list(findings)
    return {
        "schema": "syncd.doctor/1",
        "exit": exit_code(found),
        "requests": {"total": requests},
        "findings": [
            {
                "id": one.id,
                "level": one.level.value,
                "subject": one.subject,
                "message": one.message,
                "hint": one.hint,
            }
            for one in found
        ],
    }


__all__ = ["Finding", "Level", "as_json", "error", "exit_code", "from_error", "ok", "warning"]
