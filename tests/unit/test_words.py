"""Words of the program's first dialect are left only where they are standard terms.

Each allowed use is in `STANDARD_USES` with its reason; any other one fails. Reword the line, or
add the term if people who know Python and git use it too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
DIALECT = re.compile(
    r"\b(house|workshop|patience|pardon|bell|board|telling|somebody|nobody|anybody|everybody"
    r"|whoever|owed|owes|in step|settle|withdraw|stands?)",
    re.IGNORECASE,
)
STANDARD_USES = {
    "standard library": "the modules that come with Python",
    "standard stream": "stdin, stdout and stderr in POSIX",
    "standard descriptor": "file descriptors 0, 1 and 2 in POSIX",
    "standard output": "stdout in POSIX",
    "standard error": "stderr in POSIX",
    "standalone_mode": "a parameter of click's Command.main",
    "standby": "a server of PostgreSQL that follows another one",
    "stand-in": "an ordinary word for what replaces another thing, here GitHub in `syncd demo`",
    "housekeep": "the usual term for regular upkeep in a daemon",
    "in steps": "a clock moves in steps; a loop goes over the steps of a list",
    '["standing"]': "a key of the undo that a store holds",
}


def dialect_in(line: str) -> str | None:
    """Return the word that is no standard use, or None."""
    for use in STANDARD_USES:
        line = re.sub(re.escape(use), "", line, flags=re.IGNORECASE)
    found = DIALECT.search(line)
    return None if found is None else found[0]


@cache
def lines() -> list[tuple[str, str]]:
    """Return (place, line) of each line of the sources and of the example configuration."""
    files = [path for path in sorted((ROOT / "syncd").rglob("*")) if path.suffix != ".pyc"]
    texts = [path for path in [*files, ROOT / "config.example.yaml"] if path.is_file()]
    return [
        (f"{path.relative_to(ROOT)}:{number}", line)
        for path in texts
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
    ]


def test_words_of_the_first_dialect_are_left_in_standard_uses_alone() -> None:
    found = [(place, word) for place, line in lines() if (word := dialect_in(line)) is not None]
    assert found == []


@pytest.mark.parametrize("use", STANDARD_USES)
def test_each_standard_use_is_in_the_sources(use: str) -> None:
    assert any(use.lower() in line.lower() for _, line in lines()), "remove it from the table"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("class House:", "House"),
        ("# nobody asks twice", "nobody"),
        ("the reload that is owed", "owed"),
        ("standard library and a bell", "bell"),
        ("what stands there", "stands"),
        ("standard library", None),
        ("Housekeeper(self._parts)", None),
    ],
)
def test_a_word_is_found_beside_a_standard_use(line: str, word: str | None) -> None:
    assert dialect_in(line) == word
