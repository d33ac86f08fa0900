"""The site of docs/: it builds without a warning, loads nothing from outside, and has a search.

Its navigation is the order of docs/index.md.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.packaging_modules import packaging_module

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
SITE = packaging_module("docs_site")
needs_sphinx = pytest.mark.skipif(
    bool(SITE.missing()), reason="Sphinx, MyST or Furo is not installed (./dev test docs)"
)


def configuration() -> ModuleType:
    """Load docs/conf.py, which needs no Sphinx to be read."""
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs/conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INDEX = """# Title

See [this](no-entry.md).

## Start

1. [One](one.md): a page
2. [Two](two/README.md): another, [with a link](no-entry.md)

## Reference

- [One](one.md#part), again
- [One](one.md), again
- [Three](../THREE.md)
- [A schema](schema.json)
"""


def test_the_navigation_is_the_entries_of_the_index_in_order_each_page_once() -> None:
    captions = re.findall(
        r":caption: (.+)\n(?::glob:\n)?\n([^`]+)```", configuration().navigation(INDEX)
    )
    assert [(caption, pages.splitlines()) for caption, pages in captions] == [
        ("Start", ["One <one.md>", "Two <two/README.md>"]),
        ("Reference", ["Three <../THREE.md>"]),
        ("Examples", ["examples/*/*"]),
        ("Development", ["development/*"]),
        ("Decisions", ["decisions/*"]),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; no warning, so each link leads somewhere and the index names each page."""
    folder: Path = tmp_path_factory.mktemp("site") / "site"
    done = SITE.build(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@needs_sphinx
def test_the_site_loads_nothing_from_outside(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]+)"
    )
    styled = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')\s]+)")
    for page in site.rglob("*.html"):
        assert loaded.findall(page.read_text()) == [], page.name
    for sheet in site.rglob("*.css"):
        assert styled.findall(sheet.read_text()) == [], sheet.name


@needs_sphinx
def test_the_site_has_a_search_of_its_own_and_begins_with_the_index(site: Path) -> None:
    assert '"docs/going-back"' in (site / "searchindex.js").read_text()
    assert "searchindex.js" in (site / "search.html").read_text()
    assert "url=docs/index.html" in (site / "index.html").read_text()
    first = (site / "docs/index.html").read_text()
    shown = re.findall(
        r'<li class="toctree-l1"><a class="reference internal" href="([^"]+)"', first
    )
    assert shown[:2] == ["overview.html", "start.html"] and "../CHANGELOG.html" in shown
