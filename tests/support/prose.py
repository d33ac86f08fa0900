"""Figures about the prose of the documentation: sentences, passive voice, table rows, words.

`python -m tests.support.prose [REF]` prints them for each page and for all pages, of the work tree
or of a git ref. `--words` and `--rows` list the places instead, `--passive` and `--long` the
sentences. tests/unit/test_docs_prose.py holds the pages to limits.

What counts: a sentence ends with `.`, `!` or `?`, with its paragraph, or with its list item; one
that has fewer than three words is a label and is left out. Code in a line counts as one word. Code
blocks, tables, headings and the targets of links are not prose. A passive sentence has a form of
"be" and a participle with at most two adverbs between them; this is a rule of thumb, and it also
counts states such as "the file is damaged".
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST_ROW = 200
AT_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")

# Words of the first dialect: the list of tests/unit/test_words.py, and what only the pages had.
DIALECT = re.compile(
    r"\b(house|workshops?|patience|pardon|bell|board|telling|somebody|nobody|anybody|everybody"
    r"|whoever|owed|owes|owe|in step|settles?|settled|withdraws?|withdrawn|stands?|standing|stood"
    r"|brakes?|debts?|pay|pays|paid|(?:a|no|every|each) hand"
    r"|hands(?! (?:on|over|out|back|the|it|its|them|a)\b)"
    r"|(?:is|are|was|were) told|(?:a|one|its|each|every|next) turn|(?:a|each|every|per) tick"
    r"|of ours)\b",
    re.IGNORECASE,
)
STANDARD_USES = ("in steps", "stand-in", "stand-ins")

BE = r"(?:is|are|was|were|be|been|being|isn't|aren't|wasn't|weren't)"
ADVERB = r"(?:not|never|always|also|only|still|again|then|already|both|all|once|often|\w+ly)"
IRREGULAR = (
    "bound|broken|brought|built|bought|caught|chosen|cut|done|drawn|driven|fed|felt|forgotten|found"
    "|frozen|given|gone|held|hidden|kept|known|laid|left|lent|lost|made|meant|met|proven|put|read"
    "|replayed|run|said|seen|sent|set|shown|shut|sold|spent|split|taken|taught|thrown|told|thought"
    "|understood|woken|worn|written"
)
NO_PARTICIPLE = r"(?!(?:need|red|feed|seed|speed|embed|bed|indeed|un(?!do|loaded|packed)\w*)\b)"
PASSIVE = re.compile(
    rf"\b{BE}(?: {ADVERB}){{0,2}} {NO_PARTICIPLE}(?:\w{{2,}}ed|{IRREGULAR})\b", re.IGNORECASE
)
NO_END = re.compile(r"\b(?:e\.g|i\.e|etc|vs|No|St)\.$")


@dataclass
class Page:
    """The figures of one page, or of several together."""

    sentences: list[str] = field(default_factory=list)
    passive: list[str] = field(default_factory=list)
    long_rows: list[str] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)  # the word, and its line

    def lengths(self) -> list[int]:
        """The words of each sentence, in order of their number."""
        return sorted(len(sentence.split()) for sentence in self.sentences)

    @property
    def average(self) -> float:
        return sum(self.lengths()) / max(1, len(self.sentences))

    @property
    def percentile_95(self) -> int:
        """The smallest length that 95 % of the sentences do not exceed."""
        lengths = self.lengths()
        return lengths[-(-len(lengths) * 95 // 100) - 1] if lengths else 0

    @property
    def passive_percent(self) -> float:
        return 100 * len(self.passive) / max(1, len(self.sentences))


def measure(text: str) -> Page:
    """Measure one page of Markdown."""
    page = Page()
    for line in _without_code_blocks(text):
        if line.startswith("|"):
            page.long_rows += [line] if len(line) > LONGEST_ROW else []
        page.words += [(word, line) for word in dialect_in(line)]
    for paragraph in _paragraphs(text):
        for sentence in _sentences(paragraph):
            page.sentences.append(sentence)
            if PASSIVE.search(sentence):
                page.passive.append(sentence)
    return page


def together(pages: list[Page]) -> Page:
    """Return the pages as one."""
    whole = Page()
    for page in pages:
        whole.sentences += page.sentences
        whole.passive += page.passive
        whole.long_rows += page.long_rows
        whole.words += page.words
    return whole


def dialect_in(line: str) -> list[str]:
    """Return the words of the dialect in a line, code and targets of links left out."""
    text = _plain(re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "", line)))
    for use in STANDARD_USES:
        text = re.sub(re.escape(use), "", text, flags=re.IGNORECASE)
    return [found[0].lower() for found in DIALECT.finditer(text)]


def _without_code_blocks(text: str) -> Iterator[str]:
    """Yield the lines outside fenced blocks; an indented block is a line of four spaces after an
    empty line, where no list is open.
    """
    fence, in_list, after_empty, in_block = "", False, True, False
    for line in text.splitlines():
        mark = re.match(r" *(```+|~~~+)", line)
        if fence:
            if mark and mark[1] == fence:
                fence = ""
            continue
        if mark:
            fence = mark[1]
            continue
        is_indented = line.startswith("    ")
        if line.strip():
            if re.match(r"\s*([-*]|\d+\.) ", line) and not (in_block and is_indented):
                in_list = True
            elif not line.startswith(" "):
                in_list = False
            in_block = is_indented and not in_list and (after_empty or in_block)
            after_empty = False
            if in_block:
                continue
        else:
            after_empty = True
        yield line


def _paragraphs(text: str) -> Iterator[str]:
    """Yield each paragraph and each list item as one line."""
    part: list[str] = []
    for line in [*_without_code_blocks(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)), ""]:
        item = re.match(r"\s*(?:[-*+]|\d+\.) +(?:\[.\] )?(.*)", line)
        ends = not line.strip() or line.lstrip().startswith(("#", "|", "<", "!["))
        if (ends or item) and part:
            yield " ".join(part)
            part = []
        if not ends:
            part.append(item[1] if item else line.strip().lstrip("> "))


def _plain(text: str) -> str:
    """Return Markdown without the marks of links and emphasis."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text)


def _sentences(paragraph: str) -> Iterator[str]:
    """Yield the sentences of at least three words."""
    text = _plain(re.sub(r"`+[^`]*`+", "Code", paragraph))
    start = 0
    for end in re.finditer(r"[.!?][)\"']?(?=\s|$)", text):
        if NO_END.search(text[start : end.end()]):
            continue
        yield from _long_enough(text[start : end.end()])
        start = end.end()
    yield from _long_enough(text[start:])


def _long_enough(text: str) -> Iterator[str]:
    words = [word for word in text.split() if re.search(r"\w", word)]
    if len(words) >= 3:
        yield " ".join(words)


def pages(ref: str | None = None) -> dict[str, str]:
    """Return name -> text of every user and contributor page, of the work tree or of a git ref."""
    if ref is None:
        files = [ROOT / name for name in AT_TOP] + sorted((ROOT / "docs").rglob("*.md"))
        return {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    listed = _git("ls-tree", "-r", "--name-only", ref, "docs", *AT_TOP).split()
    return {name: _git("show", f"{ref}:{name}") for name in listed if name.endswith(".md")}


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def row(name: str, page: Page) -> str:
    """Return one line of the table that the command prints."""
    return (
        f"{name:<58}{len(page.sentences):>6}{page.average:>7.1f}{page.percentile_95:>5}"
        f"{page.passive_percent:>8.1f}{len(page.long_rows):>6}{len(page.words):>7}"
    )


def _listed(page: Page, kind: str) -> list[str]:
    match kind:
        case "--words":
            return [f"{word}: {line.strip()}" for word, line in page.words]
        case "--rows":
            return [f"{len(line)}: {line[:100]}" for line in page.long_rows]
        case "--passive":
            return page.passive
        case _:
            return [one for one in page.sentences if len(one.split()) > 30]


def main(arguments: list[str]) -> None:
    """Print the table, or with an option the places; names of pages choose them."""
    options = [one for one in arguments if one.startswith("--")]
    names = [one for one in arguments if one.endswith(".md")]
    refs = [one for one in arguments if one not in (*options, *names)]
    texts = pages(refs[0] if refs else None)
    measured = {name: measure(texts[name]) for name in names or texts}
    if options:
        for name, page in measured.items():
            for line in _listed(page, options[0]):
                print(f"{name}: {line}")
        return
    print(f"{'page':<58}{'sent.':>6}{'words':>7}{'95%':>5}{'pass. %':>8}{'rows':>6}{'dialect':>8}")
    for name, page in measured.items():
        print(row(name, page))
    print(row("all", together(list(measured.values()))))


if __name__ == "__main__":
    main(sys.argv[1:])
