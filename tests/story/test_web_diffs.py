"""The status page with diffs of hostile files: bounded, remembered,
and never in the way of /healthz and the webhook.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from syncd import recent_runs as recent_module
from syncd.config.load import load_config
from syncd.config.model import Web as WebConfig
from syncd.config.model import Webhook
from syncd.diff import MAX_STEPS, DiffBudget, changed_lines
from syncd.identities import SecretRef
from syncd.ports import JobState, LastError
from syncd.recent_runs import (
    MAX_CACHE_CHARS,
    MAX_CHARS,
    MAX_DIFF_STEPS,
    DiffCache,
    RecentChange,
    RecentRun,
)
from syncd.status import StatusSnapshot
from syncd.web import pages
from syncd.web import views as views_module
from syncd.web.server import Web
from tests.support.push import SECRET, push_event, signature
from tests.support.status_board import FixedBoard, StoreBoard
from tests.support.sync_env import SyncEnv, sync_env

HOSTILE = ("a\nb\n" * 3000, "b\na\na\n" * 2000)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(
        tmp_path,
        {f"nginx/{number}": f"{number}\n" + HOSTILE[0] for number in range(7)},
        as_app=False,
    ) as made:
        assert made.sync().code == 0
        made.repo.commit(
            {f"nginx/{number}": f"{number}\n" + HOSTILE[1] for number in range(7)}, "x"
        )
        assert made.sync().code == 0
        yield made


def listen(hub: SyncEnv) -> Web:
    secret = hub.folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    web = WebConfig(
        "127.0.0.1:0", show_diffs=True, webhook=Webhook("/github", SecretRef("file", str(secret)))
    )
    return Web(web, StoreBoard(load_config(hub.config, {})), {})


def get(web: Web, path: str = "") -> str:
    with urlopen(f"{web.names[0]}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def page_or_code(web: Web) -> str:
    """The page, or the status of a refusal."""
    try:
        return get(web)
    except HTTPError as error:
        return str(error.code)


def deliver(web: Web) -> int:
    body = json.dumps(push_event("acme/infra", "a" * 40)).encode()
    headers = {
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
        "X-Hub-Signature-256": signature(body),
    }
    with urlopen(Request(f"{web.names[0]}github", body, headers), timeout=30) as answer:
        return int(answer.status)


def test_four_views_of_hostile_diffs_leave_health_and_webhook_answering(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, end = threading.Semaphore(0), threading.Event()

    def slow(
        old: bytes | None, new: bytes | None, work: DiffBudget | None = None
    ) -> list[str] | str:
        began.release()
        assert end.wait(30)
        return changed_lines(old, new, work)

    monkeypatch.setattr(recent_module, "changed_lines", slow)
    web, answers = listen(hub), queue.Queue[str]()
    views = [threading.Thread(target=lambda: answers.put(page_or_code(web))) for _ in range(4)]
    try:
        views[0].start()
        assert began.acquire(timeout=30)
        for one in views[1:]:
            one.start()
        assert [answers.get(timeout=30) for _ in range(2)] == ["503", "503"], (
            "one makes the page and one waits for it"
        )
        assert get(web, "healthz") == "alive\n" and deliver(web) == 202
        assert answers.empty()
    finally:
        end.set()
        for one in views:
            one.join()
        web.close()
    assert all("too different to compare: " in answers.get() for _ in range(2))


def test_a_page_of_hostile_diffs_ends_soon_and_the_next_one_knows_them(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def counted(
        old: bytes | None, new: bytes | None, work: DiffBudget | None = None
    ) -> list[str] | str:
        nonlocal made
        made += 1
        return changed_lines(old, new, work)

    monkeypatch.setattr(recent_module, "changed_lines", counted)
    monkeypatch.setattr(views_module, "MAX_CACHE_SECONDS", 0.0)
    web = listen(hub)
    try:
        began = time.process_time()
        page = get(web)
        assert time.process_time() - began < 10
        assert (
            1 <= made <= 6
            and "not compared yet: this page had too much to compare; reload it" in page
        )
        assert MAX_DIFF_STEPS // MAX_STEPS == 5
        views = 1
        while "not compared yet" in page:
            page, views = get(web), views + 1
            assert views < 4
        before = made
        assert "too different to compare: " in get(web) and made == before
    finally:
        web.close()


def test_remembered_diffs_are_bounded() -> None:
    diffs = DiffCache()
    for number in range(3000):
        diffs.put(None, f"{number:040d}", ("+" + "x" * 1000,) * 4)
    assert diffs.get(None, f"{0:040d}") is None and diffs.get(None, f"{2999:040d}") is not None
    assert (
        sum(
            200 + 4 * 1061
            for number in range(3000)
            if diffs.get(None, f"{number:040d}") is not None
        )
        <= MAX_CACHE_CHARS
    )


class Wide(FixedBoard):
    """As many jobs, and texts as long, as there can be."""

    def recent_runs(self, show_diffs: bool) -> list[RecentRun]:
        change = RecentChange(
            "write", "/srv/" + "n" * 4000, ("+" + "&" * 400,) * (MAX_CHARS // 500)
        )
        return [RecentRun("job", None, "failed", None, None, "-eyJ" * 50_000, (change,) * 4)]

    def status_snapshot(self) -> StatusSnapshot:
        from msgspec.structs import replace

        plain = super().status_snapshot()
        state = JobState(failures=1, last_error=LastError("hook", "<" * 20_000))
        return replace(
            plain,
            jobs=tuple(
                replace(
                    plain.jobs[0],
                    job=replace(plain.jobs[0].job, name=f"job-{number}"),
                    state=state,
                    condition="failing",
                )
                for number in range(300)
            ),
        )


def test_a_page_is_bounded_in_bytes_and_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    plain = pages.redact
    monkeypatch.setattr(
        pages, "redact", lambda text, limit=None: sizes.append(len(text)) or plain(text, limit)
    )
    web = Web(WebConfig("127.0.0.1:0", show_diffs=True), Wide(), {})
    try:
        connection = http.client.HTTPConnection(
            web.names[0].removeprefix("http://").rstrip("/"), timeout=60
        )
        connection.request("GET", "/?rows=all")
        page = connection.getresponse().read().decode()
        connection.close()
    finally:
        web.close()
    assert len(page) < pages.MAX_PAGE_CHARACTERS and max(sizes) <= pages.MAX_PAGE_CHARACTERS
    assert "300 of 300 jobs are failing" in page and "more jobs; see: " in page
