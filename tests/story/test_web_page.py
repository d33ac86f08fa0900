"""The status page in a real browser: whole without a script, on a phone too, in light and dark, and
nothing that its policy would stop.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from msgspec.structs import replace

from syncd.config.model import Web as WebConfig
from syncd.models import PathRule
from syncd.ports import JobState, LastError, Pause
from syncd.recent_runs import RecentChange, RecentRun
from syncd.status import StatusSnapshot, WebhookStats
from syncd.web.server import Web
from tests.support.status_board import FixedBoard

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
LONG = "a_name_that_nobody_would_choose_but_somebody_has_" * 4


class Wild(FixedBoard):
    """Every state, and names and texts as long as they may be."""

    def recent_runs(self, show_diffs: bool) -> list[RecentRun]:
        change = RecentChange(
            "write", f"/srv/{LONG}", ("@@ -1 +1 @@", f"-{LONG * 3}", "+<script>alert(1)</script>")
        )
        return [
            RecentRun(
                LONG[:100],
                datetime.now(UTC),
                "refused",
                "a" * 40,
                "b" * 40,
                LONG * 2,
                (change, RecentChange("remove", f"/srv/{LONG}", (), "binary or large")),
                3,
            )
        ]

    def status_snapshot(self) -> StatusSnapshot:
        plain = super().status_snapshot()
        now = datetime.now(UTC)
        one = plain.jobs[0]
        long_job = replace(
            one.job,
            name=LONG[:100],
            repo=f"acme/{LONG[:90]}",
            paths=(PathRule("a", f"/srv/{LONG}/{LONG}", True),) * 5,
        )
        bad = JobState(
            failures=1,
            last_error=LastError(
                "hook", f"validate exited 1\n{LONG * 3}\n<img src=x onerror=alert(1)>"
            ),
        )
        jobs = [replace(one, job=long_job, state=bad, condition="failing")]
        jobs += [
            replace(
                one,
                job=replace(one.job, name=word),
                condition=word,
                state=replace(one.state, drift_count=word == "drift", last_success_at=now),
            )
            for word in ("drift", "never", "in_sync")
        ]
        heard = WebhookStats(
            now,
            f"push of refs/heads/{LONG} in acme/{LONG[:90]}",
            now,
            "its signature was not made with the secret that web.webhook.secret names",
        )
        return replace(
            plain,
            at=now,
            webhook=heard,
            jobs=(
                *jobs,
                replace(
                    one,
                    condition="paused",
                    state=replace(
                        one.state, pause=Pause("moving"), last_run_at=now - timedelta(days=3)
                    ),
                ),
            ),
        )


@pytest.fixture
def url() -> Iterator[str]:
    web = Web(WebConfig("127.0.0.1:0"), Wild(), {})
    yield web.names[0]
    web.close()


def browse(tmp_path: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *QUIET,
        f"--user-data-dir={tmp_path}/profile",
        "--enable-logging=stderr",
        "--v=0",
        *options,
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_nothing_on_the_page_is_stopped_by_its_own_policy_and_its_own_script_runs(
    tmp_path: Path, url: str
) -> None:
    done = browse(tmp_path, url, "--dump-dom")
    assert "1 of 5 jobs is failing, 1 has drifted, 1 is paused, 1 has not run yet" in done.stdout
    assert (
        "Content Security Policy" not in done.stderr
        and done.stdout.count("<script") == 1
        and "Pause updates" in done.stdout
        and "<img" not in done.stdout
    )


@pytest.mark.parametrize("width", [500, 1200])  # headless chromium has no window narrower than 500
def test_nothing_reaches_over_the_edge_on_a_phone_or_a_desk(
    tmp_path: Path, url: str, width: int
) -> None:
    """The very page and style, from a file where a script of the test's may measure it:
    there the policy is not sent.
    """
    with urlopen(url) as page, urlopen(f"{url}static/syncd.css") as style:
        text, css = page.read().decode(), style.read().decode()
    measure = (
        "<script>document.title = [document.documentElement.scrollWidth, window.innerWidth, "
        "getComputedStyle(document.querySelector('thead')).display].join(' ')</script>"
    )
    text = (
        re.sub(r"<link rel=\"stylesheet\"[^>]*>", lambda _: f"<style>{css}</style>", text)
        .replace("<details ", "<details open ")
        .replace("</body>", f"{measure}</body>")
    )
    (tmp_path / "page.html").write_text(text)
    done = browse(
        tmp_path, f"file://{tmp_path}/page.html", f"--window-size={width},800", "--dump-dom"
    )
    found, inner, head = re.findall(r"<title>(.*?)</title>", done.stdout)[0].split()
    assert int(found) <= int(inner) == width and (head == "none") is (width == 500), done.stdout[
        :200
    ]
