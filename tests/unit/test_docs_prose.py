"""The prose of the documentation is plain: short sentences, active voice, narrow tables.

tests/support/prose.py measures; this file has the limits, and tests of the measure itself.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import pytest

from tests.support.prose import AT_TOP, ROOT, Page, measure, pages, row, together

pytestmark = pytest.mark.docs

PAGES = pages()
MOST_WORDS_ON_AVERAGE = 18
LONGEST_OF_95_PERCENT = 30
MOST_PASSIVE_PERCENT = 10
FEW_PASSIVE = 1  # of a short page one sentence is already 10 %


@cache
def measured(name: str) -> Page:
    return measure(PAGES[name])


def problems(page: Page) -> list[str]:
    """Return what is wrong with a page's prose."""
    found = []
    if page.average > MOST_WORDS_ON_AVERAGE:
        found.append(f"{page.average:.1f} words in a sentence on average")
    if page.percentile_95 > LONGEST_OF_95_PERCENT:
        found.append(f"5 % of the sentences are longer than {page.percentile_95} words")
    if page.passive_percent >= MOST_PASSIVE_PERCENT and len(page.passive) > FEW_PASSIVE:
        found.append(f"{page.passive_percent:.0f} % of the sentences are passive")
    found += [f"a table row of {len(line)} characters: {line[:60]}" for line in page.long_rows]
    found += [f"the word '{word}' in: {line[:80]}" for word, line in page.words]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_in_plain_english_and_narrow_tables(name: str) -> None:
    assert problems(measured(name)) == [], row(name, measured(name))


def test_all_pages_together_keep_the_limits() -> None:
    whole = together([measured(name) for name in PAGES])
    assert whole.average <= MOST_WORDS_ON_AVERAGE
    assert whole.percentile_95 <= LONGEST_OF_95_PERCENT
    assert whole.passive_percent < MOST_PASSIVE_PERCENT


@pytest.mark.skipif(
    find_spec("codespell_lib") is None, reason="codespell is not installed (./dev test docs)"
)
def test_codespell_finds_no_misspelling() -> None:
    places = ["docs", *AT_TOP, "CHANGELOG.md", "config.example.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--skip", "*.svg,*.json", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


TEXT = """# A heading is no sentence. Really.

One two three. Four five `six six six` seven eight [nine](ten.md#eleven)! Label:

    this is code. It is not read. nobody

- An item that is written without an end
- two words
1. It was never really done by e.g. a file, and
   goes on here.

```console
this is not. Nobody reads it.
```

| a table | is not prose. It is skipped. |
"""


def test_the_measure_counts_sentences_of_prose_alone() -> None:
    page = measure(TEXT)
    assert page.sentences == [
        "One two three.",
        "Four five Code seven eight nine!",
        "An item that is written without an end",
        "It was never really done by e.g. a file, and goes on here.",
    ]
    assert page.passive == page.sentences[2:]
    assert (page.average, page.percentile_95, page.words, page.long_rows) == (7.5, 13, [], [])


@pytest.mark.parametrize(
    ("sentence", "is_passive"),
    [
        ("The file is written.", True),
        ("The files are not yet known to be safe.", False),
        ("The job has been paused by root.", True),
        ("It is always put back.", True),
        ("It is unchanged.", False),
        ("It is indeed there.", False),
        ("syncd writes the file.", False),
        ("It was there, and wrote it.", False),
    ],
)
def test_a_passive_sentence_is_found(sentence: str, is_passive: bool) -> None:
    assert bool(measure(sentence).passive) is is_passive


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nobody stands there", ["nobody", "stands"]),
        ("`nobody` in code, and a [link](what-syncd-stands-on.md)", []),
        ("the reload that is owed", ["owed"]),
        ("a GitHub stand-in, and an understanding", []),
        ("GitHub is told, a hand pays, whoever it is", ["is told", "a hand", "pays", "whoever"]),
        ("it hands the arguments on, on both hands", ["hands"]),
        ("| nobody | in a table |", ["nobody"]),
        ("its turn, in turn", ["its turn"]),
    ],
)
def test_a_word_of_the_dialect_is_found(line: str, words: list[str]) -> None:
    assert [word for word, _ in measure(line).words] == words


@pytest.mark.parametrize(("length", "count"), [(200, 0), (201, 1)])
def test_a_table_row_has_at_most_200_characters(length: int, count: int) -> None:
    line = "| " + "x" * (length - 4) + " |"
    assert len(line) == length
    assert len(measure(line).long_rows) == count


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (Page(sentences=["one two three."] * 20), 0),
        (Page(sentences=["w " * 19] * 20), 1),
        (Page(sentences=["one two three."] * 18 + ["w " * 31] * 2), 1),
        (Page(sentences=["one two three."] * 30, passive=["x"] * 3), 1),
        (Page(sentences=["one two three."] * 31, passive=["x"] * 3), 0),
        (Page(sentences=["one two three."] * 10, passive=["x"]), 0),
    ],
)
def test_the_limits_are_kept_by_the_line(page: Page, count: int) -> None:
    assert len(problems(page)) == count
