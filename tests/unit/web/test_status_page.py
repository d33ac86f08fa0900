"""Values of the overview: figures, filter, and the command that ends a remedy."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from syncd.cli.main import COMMANDS
from syncd.identities import Identity
from syncd.ports import JobState, LastError, Pause, PendingReload
from syncd.status import ProcessStats, StatusSnapshot
from syncd.web.pages import breakable
from syncd.web.status_page import COMMAND, Filter, Remedy, Tile, split_remedy, tiles, view
from tests.support.status_board import AT, FixedBoard

REMEDIES = [
    ("syncd resume nginx", Remedy("", "syncd resume nginx")),
    ("to apply it now: syncd sync a --now", Remedy("to apply it now: ", "syncd sync a --now")),
    ("run: syncd login ops", Remedy("run: ", "syncd login ops")),
    ("syncd needs the right to write", Remedy("syncd needs the right to write")),
    ("syncd sync a, or wait", Remedy("syncd sync a, or wait")),
    ("make the file readable", Remedy("make the file readable")),
    ("syncd sync <b>", Remedy("", "syncd sync <b>")),
]


@pytest.mark.parametrize(("text", "expected"), REMEDIES)
def test_a_remedy_is_split_into_its_text_and_its_command(text: str, expected: Remedy) -> None:
    assert split_remedy(text) == expected


def test_every_command_that_a_remedy_may_end_with_exists() -> None:
    words = COMMAND.pattern.split("(?:")[2].split(")")[0].split("|")
    assert len(words) > 10 and [word for word in words if word not in COMMANDS] == []


PAGES = [
    ("https://api.github.com", "https://github.com"),
    ("https://api.acme.ghe.com", "https://acme.ghe.com"),
    ("https://git.example.com/api/v3", "https://git.example.com"),
    ("https://git.example.com:8443/api/v3", "https://git.example.com:8443"),
    ("http://127.0.0.1:8080", None),
]


@pytest.mark.parametrize(("api", "expected"), PAGES)
def test_the_pages_of_an_identitys_host_follow_from_its_api(api: str, expected: str | None) -> None:
    assert Identity("ops", api).web_url == expected


def several() -> StatusSnapshot:
    """Five jobs, one of each: in sync, failing, drift, paused, pending reload."""
    plain = FixedBoard().status_snapshot()
    one, good = plain.jobs[0], plain.jobs[0].state
    states = {
        "well": (good, "in_sync"),
        "bad": (
            replace(
                good,
                failures=1,
                last_error=LastError("hook", "it failed", "hook", "syncd sync bad"),
                last_success_at=AT - timedelta(hours=3),
            ),
            "failing",
        ),
        "edited": (replace(good, drift_count=1200), "drift"),
        "left": (
            replace(good, pause=Pause("moving"), last_success_at=AT - timedelta(days=9)),
            "paused",
        ),
        "reload": (replace(good, pending_reload=PendingReload("a" * 40)), "failing"),
    }
    jobs = tuple(
        replace(
            one,
            job=replace(one.job, name=name),
            state=state,
            condition=word,
            web_url="https://github.com/acme/infra",
        )
        for name, (state, word) in states.items()
    )
    process = ProcessStats(AT, requests={("ops", 304): 90, ("ops", 200): 10})
    return replace(plain, jobs=jobs, process=process, usage={("ops", 42): {"a/b": 7, "a/c": 3}})


def test_the_tiles_count_what_the_store_and_the_daemon_know() -> None:
    assert tiles(several()) == (
        Tile("In sync", "1 of 5", "", "in_sync"),
        Tile("Failing", "2", "", "failing"),
        Tile("Drifted files", "1,200", "", "drift"),
        Tile("Pending reloads", "1", "", "drift"),
        Tile("Slowest lag", "3h", "bad"),
        Tile("Requests this hour", "10", "90 % of 100 answers are 304"),
    )


def test_a_page_has_fifty_jobs_the_worst_first_unless_all_are_asked_for() -> None:
    one = FixedBoard().status_snapshot().jobs[0]
    jobs = tuple(
        replace(
            one,
            job=replace(one.job, name=f"web-{number}"),
            condition="failing" if number == 249 else "in_sync",
        )
        for number in range(250)
    )
    readings = replace(FixedBoard().status_snapshot(), jobs=jobs)
    for chosen, found, shown, first in (
        (Filter(), 250, 50, "web-249"),
        (Filter(all=True), 250, 250, "web-249"),
        (Filter("in_sync"), 249, 50, "web-0"),
        (Filter(text="web-24"), 11, 11, "web-249"),
        (Filter(text="acme"), 250, 50, "web-249"),
    ):
        page = view(readings, (), chosen)
        assert (page.total, page.found, len(page.rows)) == (250, found, shown)
        assert (page.hidden, page.rows[0].name) == (found - shown, first)


def test_the_tiles_of_no_jobs_and_no_daemon_are_empty() -> None:
    empty = replace(several(), jobs=(), process=None, usage={})
    assert [(one.figure, one.note) for one in tiles(empty)] == [
        ("0 of 0", ""),
        ("0", ""),
        ("0", ""),
        ("0", ""),
        ("–", ""),
        ("0", ""),
    ]


CHOSEN = [
    (Filter(), ["bad", "reload", "edited", "left", "well"]),
    (Filter("failing"), ["bad", "reload"]),
    (Filter("", "IT FAILED"), ["bad"]),
    (Filter("", "/etc/nginx"), ["bad", "reload", "edited", "left", "well"]),
    (Filter("", "moving"), ["left"]),
    (Filter("drift", "moving"), []),
    (Filter("", "a" * 40), ["bad", "reload", "edited", "left", "well"]),
    (Filter("no-such-state"), []),
]


@pytest.mark.parametrize(("chosen", "expected"), CHOSEN)
def test_the_jobs_are_filtered_by_state_and_text_worst_first(
    chosen: Filter, expected: list[str]
) -> None:
    shown = view(several(), (), chosen)
    assert [row.name for row in shown.rows] == expected
    assert (shown.total, shown.found) == (5, len(expected))


def test_a_row_has_the_reason_the_command_and_pages_of_the_host() -> None:
    row = view(several(), (), Filter("", "it failed")).rows[0]
    assert (row.reasons, row.remedy) == (("it failed",), Remedy("", "syncd sync bad"))
    assert row.repo_url == "https://github.com/acme/infra"
    assert row.since.text == "for 0s"
    assert row.commit_url == f"https://github.com/acme/infra/commit/{'a' * 40}"


def test_a_job_that_never_ran_has_no_commit_page_and_no_since() -> None:
    plain = several()
    new = replace(plain.jobs[0], state=JobState(), condition="never")
    row = view(replace(plain, jobs=(new,)), (), Filter()).rows[0]
    assert (row.commit_url, row.since.exact) == (None, None)


BREAKABLE = [
    ("/etc/nginx/", "/<wbr>etc/<wbr>nginx/"),
    ("a&b/<script>", "a&amp;b/<wbr>&lt;script&gt;"),
    ("plain", "plain"),
    ("a/\u202eb", "a/<wbr>\\u202eb"),
]


@pytest.mark.parametrize(("text", "expected"), BREAKABLE)
def test_a_path_may_break_after_a_slash_and_is_escaped(text: str, expected: str) -> None:
    assert breakable(text) == expected
