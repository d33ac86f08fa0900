"""A browser, and pages of the listener in it. Playwright drives Debian's chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.security import generate_password_hash

from syncd.config.model import Web as WebConfig
from syncd.identities import SecretRef
from syncd.web.server import Web

CHROMIUM = shutil.which("chromium")
USER, PASSWORD = "octocat", "octocat has a password"
SHOTS = os.environ.get("SYNCD_SHOTS")  # a folder for the pictures of every look


@dataclass
class Visit:
    """One page in a window of its own, and what the window did."""

    page: Any
    origin: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path, wait_until="load")

    def shot(self, name: str) -> None:
        if SHOTS:
            Path(SHOTS).mkdir(exist_ok=True)
            whole = not name.startswith("many")  # fifty jobs are a picture of some meters
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=whole)

    def assert_quiet(self) -> None:
        """No request has left the origin, and the browser stopped nothing."""
        foreign = [url for url in self.requests if not url.startswith((self.origin, "data:"))]
        assert foreign == [] and self.complaints == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Visit]]:
    """Open a window on a board; `web` are keys of `web:`, the rest is Playwright's."""
    monkeypatch.setattr("syncd.web.pages.socket.gethostname", lambda: "web01.example.com")
    with ExitStack() as stack:
        yield lambda board, web=None, **options: _open(stack, browser, board, web or {}, options)


def _open(
    stack: ExitStack, browser: Any, board: Any, web: dict[str, Any], options: dict[str, Any]
) -> Visit:
    environ = {"HASH": generate_password_hash(PASSWORD, "scrypt")} if "users" in web else {}
    listener = Web(WebConfig("127.0.0.1:0", show_diffs=True, **web), board, environ)
    stack.callback(listener.close)
    context = browser.new_context(**options)
    stack.callback(context.close)
    made = Visit(context.new_page(), listener.names[0].rstrip("/"))
    made.page.on("request", lambda request: made.requests.append(request.url))
    made.page.on("dialog", lambda dialog: made.complaints.append(f"dialog {dialog.message}"))
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on(
        "console",
        lambda line: made.complaints.append(line.text) if line.type == "error" else None,
    )
    return made


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    package = pytest.importorskip("axe_playwright_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


def with_actions() -> dict[str, Any]:
    return {"users": {USER: SecretRef("env", "HASH")}, "actions": True}
