"""What was reported of a job last: its alert, and one mark for each other thing that lasts.

The store keeps it as one text, such as `failed status=1f0c9d2…:failure`, so that daemon and
one-shots agree on what is new. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace


class Reported(Struct, frozen=True):
    """`alert` is `failed`, `drift` or None for well; a mark is what was reported under its name."""

    alert: str | None = None
    marks: Mapping[str, str] = field(default_factory=dict)

    def with_mark(self, name: str, value: str | None) -> Reported:
        """Return the same with this mark; None removes it."""
        kept = {key: one for key, one in self.marks.items() if key != name}
        return replace(self, marks=kept if value is None else {**kept, name: value})

    def text(self) -> str | None:
        """Return the text that the store keeps; None where there is nothing to keep."""
        words = [self.alert] if self.alert is not None else []
        words += [f"{name}={value}" for name, value in sorted(self.marks.items())]
        return " ".join(words) or None


def parse(text: str | None) -> Reported:
    """Return what the text of `Reported.text` says."""
    words = text.split() if text is not None else []
    marks = dict(word.split("=", 1) for word in words if "=" in word)
    return Reported(next((word for word in words if "=" not in word), None), marks)
