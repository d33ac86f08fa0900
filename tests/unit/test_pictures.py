"""docs/pictures: each file is what packaging/pictures.py draws, and needs nothing from outside."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.packaging_modules import packaging_module

pytestmark = pytest.mark.docs

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "pictures"
DRAWN = packaging_module("pictures")
AGAIN = "run `python3 dev pictures`"


@pytest.mark.parametrize("name", ["run.svg", "tokens.svg", "drift.svg"])
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    drawn = {"run": DRAWN.run_picture, "tokens": DRAWN.token_picture, "drift": DRAWN.drift_picture}
    assert (FOLDER / name).read_text() == drawn[Path(name).stem](), AGAIN


def test_the_terminal_picture_shows_what_the_demo_prints() -> None:
    def without_seconds(svg: str) -> list[str]:
        return [re.sub(r"^\d+\.\d s$", "SECONDS", text) for text in DRAWN.texts(svg)]

    again = DRAWN.terminal_picture(DRAWN.demo_output(), "make demo", "again")
    kept = (FOLDER / "demo.svg").read_text()
    assert without_seconds(kept) == without_seconds(again), AGAIN
    assert "all equal." in DRAWN.texts(kept)[-1]


def test_every_picture_has_a_light_and_a_dark_look_and_no_outside_asset() -> None:
    pictures = sorted(DOCS.rglob("*.svg"))
    assert len(pictures) >= 5
    for picture in pictures:
        text = picture.read_text()
        root = ElementTree.fromstring(text)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None, picture.name
        assert "@media (prefers-color-scheme:dark)" in text, picture.name
        addresses = set(re.findall(r"https?://[^\"'\s)]+", text))
        assert addresses == {"http://www.w3.org/2000/svg"}, picture.name
        assert "<script" not in text and "url(http" not in text, picture.name


def test_every_picture_is_shown_by_a_page() -> None:
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    shown = "".join(page.read_text() for page in pages)
    for picture in DOCS.rglob("*.svg"):
        assert f"{picture.name})" in shown, picture.name
