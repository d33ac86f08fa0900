"""What people do on the page: who may, what it does, and how the history has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import run
from syncd.models import Trigger
from syncd.store.actions import Person
from syncd.web.server import Web
from tests.story.test_web import Answer
from tests.story.test_web_access import (
    HTML,
    OWN,
    PASSWORD,
    ask,
    assert_says_nothing,
    basic,
    cookie_of,
    guarded,
    listen,  # noqa: F401  (a fixture)
    listening,
    log_in,
)
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.status_board import ControlLog, FixedBoard

PAUSE = {"reason": "change freeze", "for": "2h"}


class Visitor:
    """A browser whose user has logged in."""

    def __init__(self, web: Web, user: str = "octocat", password: str = OWN) -> None:
        self.web = web
        self.origin = web.names[0].rstrip("/") if web.names[0].startswith("http") else "http://x"
        self.headers = {**HTML, **cookie_of(log_in(web, user, password))}
        if self.origin == "http://x":
            self.headers["Host"] = "x"

    def get(self, path: str) -> str:
        return ask(self.web, path, self.headers).text

    def token(self, path: str = "/jobs/nginx") -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.get(path))
        assert found is not None
        return found[1]

    def post(self, path: str, form: dict[str, str], **headers: str) -> Answer:
        sent = {**self.headers, "Origin": self.origin, **headers}
        return ask(self.web, path, {name: it for name, it in sent.items() if it}, "POST", form)


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "by"), [("octocat", OWN, "octocat"), ("", PASSWORD, None)]
)
def test_who_logged_in_may_act_and_each_action_leads_to_the_page_of_the_job(
    user: str,
    password: str,
    by: str | None,
    listen: str,  # noqa: F811
) -> None:
    board = FixedBoard()
    with listening(listen, board=board, **guarded(actions=True)) as web:
        visitor = Visitor(web, user, password)
        token = {"token": visitor.token()}
        for action in ("sync", "pause", "resume"):
            done = visitor.post(f"/jobs/nginx/{action}", token | PAUSE)
            assert (done.status, done.headers["location"]) == (303, "/jobs/nginx")
    person = Person(by, "this machine")
    assert board.job_control.done == [
        ("sync", "nginx", person),
        ("pause", "nginx", person, "change freeze", 7200.0),
        ("resume", "nginx", person),
    ]


REFUSED: dict[str, tuple[dict[str, str], dict[str, str], int, str]] = {
    "no token": ({"token": ""}, {}, 403, "of an earlier login"),
    "a wrong token": ({"token": "x" * 32}, {}, 403, "of an earlier login"),
    "a token that is no ASCII": ({"token": "é" * 32}, {}, 403, "of an earlier login"),
    "no origin": ({}, {"Origin": ""}, 403, "which page it comes from"),
    "a foreign origin": ({}, {"Origin": "https://evil.example"}, 403, "another site"),
    "an opaque origin": ({}, {"Origin": "null"}, 403, "another site"),
    "no reason": ({"reason": " "}, {}, 400, "needs a reason"),
    "a long reason": ({"reason": "x" * 201}, {}, 400, "at most 200 characters"),
    "no duration": ({"for": "5 parsecs"}, {}, 400, "is not a duration"),
    "no time at all": ({"for": "0s"}, {}, 400, "is no time at all"),
    "too long": ({"for": "9000d"}, {}, 400, "longer than a year"),
}


def test_nothing_is_done_for_a_form_that_is_not_ours_or_not_right(listen: str) -> None:  # noqa: F811
    board = FixedBoard()
    with listening(listen, board=board, **guarded(actions=True)) as web:
        visitor = Visitor(web, "", PASSWORD)
        whole = {"token": visitor.token(), **PAUSE}
        for case, (form, headers, status, why) in REFUSED.items():
            found = visitor.post("/jobs/nginx/pause", {**whole, **form}, **headers)
            assert (found.status, why in found.text) == (status, True), (case, found.text)
        plain = visitor.post("/jobs/nginx/pause", {}, Accept="*/*")
        assert plain.headers["content-type"].startswith("text/plain")
    assert board.job_control.done == []


def test_a_token_of_another_session_or_of_one_that_has_ended_is_worth_nothing() -> None:
    board = FixedBoard()
    with listening(board=board, **guarded(actions=True)) as web:
        first, second = Visitor(web), Visitor(web)
        token = {"token": first.token()}
        assert second.post("/jobs/nginx/sync", token).status == 403
        ask(web, "/logout", first.headers, "POST")
        left = first.post("/jobs/nginx/sync", token)
        assert left.status == 401
        assert_says_nothing(left)
    assert board.job_control.done == []


def test_a_job_that_is_not_configured_and_one_that_does_nothing_say_so() -> None:
    board = FixedBoard(job_control=ControlLog(problem="nginx is paused: moving; resume it first"))
    with listening(board=board, **guarded(actions=True)) as web:
        visitor = Visitor(web)
        token = {"token": visitor.token()}
        assert visitor.post("/jobs/none/sync", token).status == 404
        found = visitor.post("/jobs/nginx/sync", token)
        assert (found.status, "nginx is paused: moving; resume it first" in found.text) == (
            409,
            True,
        )


@pytest.mark.parametrize("actions", [True, False])
def test_the_page_has_buttons_only_where_they_may_be_used(actions: bool) -> None:
    with listening(**guarded(actions=actions)) as web:
        visitor = Visitor(web)
        page = visitor.get("/jobs/nginx")
        assert ("/jobs/nginx/sync" in page, "Logged in as octocat" in page) == (actions, True)
        other = ask(web, "/jobs/nginx", {**HTML, **basic(PASSWORD)}).text
        assert "<form" not in other and "Logged in" not in other
        assert visitor.post("/jobs/nginx/sync", {}).status == (403 if actions else 404)


def test_two_people_who_look_at_once_get_their_own_name_and_token() -> None:
    with listening(**guarded(actions=True)) as web:
        first, second = Visitor(web), Visitor(web, "", PASSWORD)
        assert first.token() != second.token() == second.token()
        assert "Logged in as octocat" in first.get("/jobs/nginx")
        assert "Logged in as web.password" in second.get("/jobs/nginx")
        etags = {
            ask(web, "/jobs/nginx", one.headers).headers["etag"] for one in (first, second, first)
        }
        assert len(etags) == 2


# --- what they do ---------------------------------------------------------------------------------


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "a\n"})
        made.add("nginx", "acme/r", "1d")
        made.begin(lambda: 0.5)
        made.run(120)
        made.reports.clear()
        yield made


def history(capsys: pytest.CaptureFixture[str], days: SimulatedDaemon, *options: str) -> str:
    capsys.readouterr()
    assert run(["-c", str(days.folder / "config.yaml"), "history", *options]) == 0
    return capsys.readouterr().out


def test_sync_now_pause_and_resume_in_a_daemon_and_how_they_are_recorded(
    days: SimulatedDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(board=days.daemon, **guarded(actions=True)) as web:
        visitor = Visitor(web)
        form: dict[str, str] = {"token": visitor.token(), "reason": "change <b> freeze"}
        days.github.repos["acme/r"].commit({"files/a": "two\n"})

        assert visitor.post("/jobs/nginx/sync", form).status == 303
        days.run(1)
        assert [report.trigger for _, report in days.reports] == [Trigger.OPERATOR]
        assert (days.folder / "dest/nginx/a").read_text() == "two\n"

        days.clock.advance(60)
        assert visitor.post("/jobs/nginx/pause", form).status == 303
        page = visitor.get("/jobs/nginx")
        assert "paused: change &lt;b&gt; freeze (octocat)" in page
        assert "/jobs/nginx/resume" in page and "/jobs/nginx/sync" not in page
        refused = visitor.post("/jobs/nginx/sync", form)
        assert (refused.status, "resume it first" in refused.text) == (409, True)
        days.run(1)
        assert len(days.reports) == 1, "a paused job makes no request"

        days.clock.advance(60)
        assert visitor.post("/jobs/nginx/resume", form).status == 303
        assert visitor.post("/jobs/nginx/resume", form).status == 409
        page = visitor.get("/jobs/nginx")
    assert not days.daemon.app.store.state("nginx").paused(days.clock.now())
    done = [
        "resumed by octocat from this machine",
        "paused by octocat from this machine: change <b> freeze",
        "sync now, by octocat from this machine",
    ]
    lines = [line for line in history(capsys, days, "nginx").splitlines() if line.startswith("◆")]
    assert [line.partition("nginx  ")[2] for line in lines] == done
    shown = [page.index(text.replace("<b>", "&lt;b&gt;")) for text in done]
    assert shown == sorted(shown), "the timeline has them, the newest first"
    found: Any = json.loads(history(capsys, days, "--json"))["actions"]
    assert [one.pop("at")[-1] for one in found] == ["Z"] * 3
    assert found[1] == {
        "job": "nginx",
        "action": "pause",
        "user": "octocat",
        "client": "this machine",
        "reason": "change <b> freeze",
        "until": None,
    }
    assert history(capsys, days, "--path", str(days.folder / "dest/nginx/a")).count("◆") == 0
    assert history(capsys, days, "--limit", "1").count("\n") == 1
