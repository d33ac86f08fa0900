"""The page by keyboard alone: the filter, the login, and actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syncd.store.actions import Person
from tests.browser.conftest import CHROMIUM, PASSWORD, USER, Visit, with_actions
from tests.browser.test_looks import WINDOWS, assert_fits, assert_no_barrier
from tests.support.page_boards import LookBoard, worst
from tests.support.status_board import ControlLog

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
FOCUS = """(() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one.id || one.textContent.trim(), style.outlineStyle];
})()"""
MOST_KEYS = 60


def tab_to(page: Any, name: str) -> None:
    """Press Tab until what has this id, or this text, has the focus, and shows that it has."""
    for _ in range(MOST_KEYS):
        page.keyboard.press("Tab")
        found, outline = page.evaluate(FOCUS)
        assert outline != "none", f"nothing shows that {found} has the focus"
        if found == name:
            return
    pytest.fail(f"no key leads to {name}")


def log_in(visit: Visit, path: str = "/") -> None:
    visit.go(path)
    visit.page.keyboard.type(USER)  # the field has the focus
    tab_to(visit.page, "password")
    visit.page.keyboard.type(PASSWORD)
    with visit.page.expect_navigation():
        visit.page.keyboard.press("Enter")
    visit.complaints = [one for one in visit.complaints if "401" not in one]  # the form's status


@pytest.mark.parametrize("window", ["light", "noscript"])
def test_the_filter_by_keyboard(window: str, visit: Callable[..., Visit]) -> None:
    found = visit(worst(), **WINDOWS[window])
    found.go("/")
    tab_to(found.page, "state")
    found.page.keyboard.type("fail")
    tab_to(found.page, "q")
    found.page.keyboard.type("hapr")
    with found.page.expect_navigation():
        found.page.keyboard.press("Enter")
    assert found.page.url.endswith("/?state=failing&q=hapr")
    assert found.page.locator("th[scope=row]").all_inner_texts() == ["haproxy"]
    found.assert_quiet()


@pytest.mark.parametrize("window", ["light", "noscript"])
def test_login_actions_and_logout_by_keyboard(
    window: str, visit: Callable[..., Visit], axe: str
) -> None:
    board = LookBoard([one for one in worst().jobs if one.job.name == "nginx"], job_control=Log())
    found = visit(board, with_actions(), **WINDOWS[window])
    log_in(found, "/jobs/nginx")
    assert found.page.locator("h1").inner_text().startswith("nginx")
    tab_to(found.page, "Sync now nginx")
    with found.page.expect_navigation():
        found.page.keyboard.press("Enter")
    tab_to(found.page, "Pause")
    found.page.keyboard.press("Enter")
    tab_to(found.page, "reason")
    found.page.keyboard.type("change freeze")
    tab_to(found.page, "for")
    found.page.keyboard.type("2h")
    found.shot(f"actions-{window}")
    if window == "light":
        assert_no_barrier(found, axe)
    with found.page.expect_navigation():
        found.page.keyboard.press("Enter")
    assert found.page.url.endswith("/jobs/nginx")
    by = Person(USER, "this machine")
    done = [("sync", "nginx", by), ("pause", "nginx", by, "change freeze", 7200.0)]
    assert board.job_control.done == done
    tab_to(found.page, "Log out")
    with found.page.expect_navigation():
        found.page.keyboard.press("Enter")
    assert found.page.locator("#password").count() == 1
    found.complaints = [one for one in found.complaints if "401" not in one]
    found.assert_quiet()


@pytest.mark.parametrize("window", ["light", "dark", "phone", "zoom"])
def test_what_is_there_for_people_who_may_act_has_no_barrier(
    window: str, visit: Callable[..., Visit], axe: str
) -> None:
    found = visit(worst(), with_actions(), **WINDOWS[window])
    found.go("/")
    assert_no_barrier(found, axe)
    found.shot(f"login-{window}")
    log_in(found)
    for path in ("/", "/jobs/nginx", "/jobs/legacy"):
        found.go(path)
        assert_fits(found)
        assert_no_barrier(found, axe)
        found.shot(f"acting{path.replace('/', '-')}-{window}")
    # the browser may tell of the form's status after the login
    found.complaints = [one for one in found.complaints if "401" not in one]
    found.assert_quiet()


class Log(ControlLog):
    """A control that knows each job."""

    def has(self, job: str) -> bool:
        return True
