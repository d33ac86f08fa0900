"""Every look of the page in a browser: no barrier that axe finds, nothing over the edge, nothing
from elsewhere, and markup of others as text.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import CHROMIUM, Visit
from tests.support.fleet_looks import FLEETS, HALTED, fleet
from tests.support.page_boards import LOOKS, MARKUP, NOW, LookBoard, worst

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
DOCS = Path(__file__).resolve().parents[2] / "docs"
WINDOWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
    "noscript": {"viewport": {"width": 1280, "height": 800}, "java_script_enabled": False},
    # what a window of 1280 pixels has at 200 %
    "zoom": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
}
MEASURE = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
SERIOUS = "axe.run().then(found => found.violations.map(one => [one.id, one.nodes[0].html]))"


def assert_no_barrier(visit: Visit, axe: str) -> None:
    visit.page.evaluate(axe)
    assert visit.page.evaluate(SERIOUS) == []


def assert_fits(visit: Visit) -> None:
    wanted, there = visit.page.evaluate(MEASURE)
    assert wanted <= there, f"{wanted - there} pixels over the edge"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("window", WINDOWS)
def test_a_look_has_no_barrier_and_asks_nothing_of_others(
    look: str, window: str, visit: Callable[..., Visit], axe: str
) -> None:
    make, heading = LOOKS[look]
    board = make()
    found = visit(board, **WINDOWS[window])
    paths = ["/", *(f"/jobs/{one.job.name}" for one in board.jobs[:1])]
    for path in paths if window in ("light", "phone") or look == "failing" else ["/"]:
        found.go(path)
        title = found.page.title()
        assert title.endswith("web01.example.com · syncd")
        assert path != "/" or title.startswith(heading), title
        assert_fits(found)
        found.shot(f"{look}-{window}{'-job' if path != '/' else ''}")
        if window != "noscript":  # axe is a script too; without one the page is as with it
            assert_no_barrier(found, axe)
        assert found.page.locator("#pause").count() == (window != "noscript")
    found.assert_quiet()


@pytest.mark.parametrize(
    ("look", "window"),
    [
        *((look, window) for look in ("well", "halted", "away", "many") for window in WINDOWS),
        ("unknown", "light"),
        ("empty", "dark"),
    ],
)
def test_a_look_of_the_fleet_has_no_barrier_and_asks_nothing_of_others(
    look: str, window: str, visit: Callable[..., Visit], axe: str
) -> None:
    make, heading = FLEETS[look]
    found = visit(LookBoard([], fleet_watch=make()), **WINDOWS[window])
    found.go("/fleet")
    assert found.page.title() == f"{heading} · web01.example.com · syncd"
    assert_fits(found)
    found.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    found.shot(f"{'many-' if look == 'many' else ''}fleet-{look}-{window}")
    assert_fits(found)
    if window != "noscript":
        assert_no_barrier(found, axe)
    assert found.page.locator("img, main script").count() == 0
    assert found.page.locator("#pause").count() == (window != "noscript")
    found.assert_quiet()


@pytest.mark.parametrize("path", ["/", "/jobs/nginx", "/runs/1", f"/?q={MARKUP}"])
def test_markup_of_others_is_text(path: str, visit: Callable[..., Visit]) -> None:
    found = visit(worst(), **WINDOWS["light"])
    found.go(path)
    found.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert found.page.locator("img").count() == 0
    scripts = [one.get_attribute("src") for one in found.page.locator("script").all()]
    assert scripts == ["/static/syncd.js"] if path != "/runs/1" else scripts == []
    text = found.page.locator("body").inner_text().replace("\u200b", "")
    assert MARKUP in text or MARKUP in found.page.locator("#q").input_value()
    found.assert_quiet()


def test_the_page_follows_what_happens_without_a_jump(visit: Callable[..., Visit]) -> None:
    board = worst()
    found = visit(board, **WINDOWS["light"])
    found.page.clock.install(time=NOW)
    found.go("/")
    found.page.locator("details").first.click()
    found.page.get_by_role("link", name="sshd").focus()
    found.page.evaluate("scrollTo(0, 200)")
    board.jobs = board.jobs[1:]
    with found.page.expect_response(lambda answer: answer.status == 200):
        found.page.clock.run_for(11_000)
    found.page.wait_for_function("document.title.startsWith('1 of 7 jobs')")
    state = "[scrollY, document.activeElement.textContent, document.querySelector('details').open]"
    assert found.page.evaluate(state) == [200, "sshd", True]
    found.assert_quiet()


PICTURES = {"page-overview": "/", "page-job": "/jobs/postgres", "page-fleet": "/fleet"}
TIDY = """markup => {
    document.querySelectorAll('wbr').forEach(one => one.remove());
    document.body.normalize();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const one = texts.currentNode;
        one.data = one.data.replaceAll('/' + markup, '').replaceAll(' ' + markup, '');
    }
}"""


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_documentation_are_of_this_page(
    name: str, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """SYNCD_PICTURES=1 writes them to docs/pictures."""
    board = worst()
    board.fleet_watch = fleet(HALTED) if name == "page-fleet" else None
    found = visit(board, viewport={"width": 1000, "height": 900}, color_scheme="light")
    found.go(PICTURES[name])
    found.page.evaluate(TIDY, MARKUP)
    folder = DOCS / "pictures" if os.environ.get("SYNCD_PICTURES") else tmp_path
    found.page.screenshot(path=str(folder / f"{name}.png"))
    assert 10_000 < (folder / f"{name}.png").stat().st_size < 300_000
    assert (DOCS / "pictures" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"](pictures/{name}.png)" in (DOCS / "page.md").read_text()
    assert "script" not in found.page.locator("body").inner_text()
