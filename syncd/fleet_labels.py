"""Labels of a fleet's agents, `tier=web`: which agents a job chooses by its `where:`.

Pure, and below the configuration and the commands, which both read labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LABEL_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?")


def checked_label(name: str, value: object) -> tuple[str, str]:
    """Return the label. Raises ValueError for a name or a value that none may have."""
    for part in (name, value):
        if not isinstance(part, str) or not LABEL_PART.fullmatch(part):
            raise ValueError(
                f"'{str(part)[:40]}' is no part of a label; write up to 63 letters, digits, '-', "
                "'_', '.' and '/', as in {tier: web}"
            )
    return name, str(value)


def label_of(text: str) -> tuple[str, str]:
    """Return the label that `NAME=VALUE` writes. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"'{text[:40]}' is no label; write NAME=VALUE, such as tier=web")
    return checked_label(name, value)


def has_labels(labels: Mapping[str, str], where: Iterable[tuple[str, str]]) -> bool:
    """Return whether the labels have all of `where`, which may be empty."""
    return all(labels.get(name) == value for name, value in where)


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as people write them: `tier=web zone=a`; `-` for none."""
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "-"


__all__ = ["LABEL_PART", "checked_label", "has_labels", "label_of", "labels_text"]
