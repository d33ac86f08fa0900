"""The fleet's page as values: what is worst, why, and what to type."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.web.fleet_page import view
from syncd.web.status_page import Filter
from tests.support.fleet_looks import (
    AWAY,
    FLEETS,
    HALTED,
    MANY,
    NOW,
    WELL,
    ago,
    fleet,
    job,
    reading,
)

ALL = Filter()


@pytest.mark.parametrize("look", FLEETS)
def test_the_sentence_says_what_is_wrong(look: str) -> None:
    make, heading = FLEETS[look]
    found = view(make().look(), ALL)
    assert found.title == heading
    assert found.good is (look in ("well", "empty"))


def test_each_job_says_why_and_what_to_type() -> None:
    found = {row.name: row for row in view(fleet(HALTED).look(), ALL).jobs}
    assert list(found) == ["nginx", "postgres", "haproxy", "sshd"]
    nginx, haproxy = found["nginx"], found["haproxy"]
    assert nginx.reasons == (
        "the rollout stopped: web01: validate (hook/commit-rejected) (by c1)",
        "failing on web01",
    )
    assert (nginx.since.text, nginx.wave) == (
        "for 9m",
        "Wave 1 of 3: 0 of 1 agent healthy; no further wave begins",
    )
    assert [one.removeprefix("syncd fleet ") for one in nginx.commands] == [
        "promote nginx",
        "resume nginx",
        "halt nginx",
        "rollback nginx",
    ]
    assert [said for _, said in nginx.decisions] == [
        "stop by c1: 4c0ffee web01: validate (hook/commit-rejected)",
        "promote by octocat@c1: 9d2e11b",
    ]
    assert haproxy.wave == "Wave 2 of 3: 1 of 2 agents healthy; waits for web02"
    assert found["postgres"].remedy is not None
    assert found["postgres"].remedy.command == "syncd fleet resume postgres"
    assert found["postgres"].next_poll.text == "when resumed"


def test_each_agent_says_why_and_what_to_type() -> None:
    rows = {row.name: row for row in view(fleet(HALTED).look(), ALL).agents}
    assert [(row.name, row.shown) for row in rows.values()] == [
        ("web01", "failing"),
        ("web02", "behind"),
        ("web03", "no report yet"),
    ]
    assert rows["web01"].reasons[0].startswith("nginx: validate failed for 4c0ffee (exit 1)")
    assert rows["web01"].remedy is not None
    assert rows["web01"].remedy.text == "on web01.example.com: "
    assert rows["web01"].remedy.command == "syncd status nginx"
    assert rows["web02"].reasons == (
        "postgres: has 9d2e11b, and 4c0ffee is published",
        "haproxy: has 9d2e11b, and 4c0ffee is published",
        "nginx: waits for its wave",
    )


def test_two_machines_of_one_name_are_the_worst() -> None:
    one, *rest = WELL.agents
    twins = replace(WELL, agents=(*rest, replace(one, twins=("a", "b"))))
    row = view(fleet(twins).look(), ALL).agents[0]
    assert (row.shown, row.reasons) == ("two machines", ("two machines use this name: a, b",))


@pytest.mark.parametrize(
    ("values", "reason", "command"),
    [
        (
            {"failures": 3, "error": "no such ref", "error_id": "not_found/ref"},
            "3 polls in a row failed: no such ref",
            "syncd doctor",
        ),
        ({}, None, "syncd fleet grant AGENT nginx"),
    ],
)
def test_a_job_without_agents(values: dict[str, object], reason: str | None, command: str) -> None:
    (row,) = view(fleet(reading(job("nginx", (), **values))).look(), ALL).jobs
    assert row.reasons == (() if reason is None else (reason,))
    assert row.remedy is not None and row.remedy.command == command


@pytest.mark.parametrize(
    ("chosen", "agents", "found", "hidden"),
    [
        (Filter(), 50, 300, 250),
        (Filter(all=True), 300, 300, 0),
        (Filter("failing"), 2, 2, 0),
        (Filter(text="WEB231.example"), 1, 1, 0),
        (Filter("in_sync", "web231"), 0, 0, 0),
    ],
)
def test_the_filter_chooses_among_300_agents(
    chosen: Filter, agents: int, found: int, hidden: int
) -> None:
    page = view(fleet(MANY).look(), chosen)
    assert (len(page.agents), page.found, page.hidden_agents) == (agents, found, hidden)
    assert page.total == 300


def test_a_database_that_is_away_is_said_with_since_when() -> None:
    page = view(fleet(WELL, AWAY).look(), ALL)
    assert page.away == (
        "The fleet's database is away since 2026-11-30T11:46:00Z (14m): "
        "the fleet's database can't be used now: connection refused"
    )
    assert page.at == "2026-11-30T12:00:00Z" and ago(minutes=14) < NOW
