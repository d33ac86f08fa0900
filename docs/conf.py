"""Sphinx's configuration: `make docs` builds the site from the Markdown that a code host shows.

The source folder is the repository, so that links between docs/ and CHANGELOG.md or a file of
packaging/ lead to the same place on the site and on a code host. The pages are plain Markdown; what
only the site needs is made here: the navigation comes from the lists of links in index.md, in their
order. Why Sphinx: decisions/0023-the-site-is-built-by-sphinx.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = ROOT / "syncd/__init__.py"

project = "syncd"
version = release = re.findall(r'__version__ = "(.+)"', VERSION_FILE.read_text())[0]
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
include_patterns = ["docs/**", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "build", "dist", "syncd", "tests", "docs/examples/**/repository"]
highlight_language = "text"  # a block that names no language is of a shell, or an output
nitpicky = True
myst_heading_anchors = 4  # as a code host makes them

html_theme = "furo"  # its styles and icons come with it, and its fonts are the reader's own
html_title = f"syncd {version}"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

ENTRY = re.compile(r"^(?:\d+\.|-) \[([^\]]+)\]\(([^)#\s]+\.md)\)", re.MULTILINE)
SECTION = re.compile(r"^## +(.+)$", re.MULTILINE)
FOLDERS = {
    "Examples": "examples/*/*",
    "Development": "development/*",
    "Decisions": "decisions/*",
}


def navigation(text: str) -> str:
    """Return Sphinx's navigation: the pages that each section of index.md links to, in order.

    A page that two sections name is in the first. A page that none names makes the build fail.
    """
    seen: set[str] = set()
    parts = []
    _, *pieces = SECTION.split(text)
    for caption, body in zip(pieces[::2], pieces[1::2], strict=True):
        new = [(title, page) for title, page in ENTRY.findall(body) if page not in seen]
        seen.update(page for _, page in new)
        if new:
            parts.append(
                _toctree(f":caption: {caption}", "", *(f"{title} <{page}>" for title, page in new))
            )
    parts += [
        _toctree(f":caption: {name}", ":glob:", "", pattern) for name, pattern in FOLDERS.items()
    ]
    return "\n".join(parts)


def _toctree(*lines: str) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", *lines, "```", ""])


def _add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += navigation(source[0])


def _lead_to_the_first_page(app: Sphinx, error: Exception | None) -> None:
    """Write index.html, because the first page is docs/index.html."""
    if error is None and app.builder.format == "html":
        to = f"{root_doc}.html"
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={to}"><a href="{to}">'
        (Path(app.outdir) / "index.html").write_text(f"{page}syncd: documentation</a>\n")


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _lead_to_the_first_page)
