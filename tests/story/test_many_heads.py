"""Many repositories in one GraphQL request: what it saves, and that it never decides alone.

Forty repositories are due at once, on a daemon whose REST polls are cut to ten a minute here.
The heads of SYNCD_POLLED_REPOSITORIES repositories are asked for with the real number of polls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.daemon import head_polls
from syncd.daemon.head_polls import Candidate, HeadPolls, key_of
from syncd.github import poll_choice
from syncd.github.request_cache import SingleFlight
from syncd.models import Job, Trigger
from syncd.ports import Head
from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from tests.support.polled_daemon import PolledDaemon, polled_daemon

REPOSITORIES = int(os.environ.get("SYNCD_POLLED_REPOSITORIES", "1200"))
MINUTES = int(os.environ.get("SYNCD_POLLED_MINUTES", "1"))
JOBS = 40
LIMIT = int(os.environ.get("SYNCD_POLLED_LIMIT", "12500"))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolledDaemon]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(head_polls, "REST_POLLS_PER_MINUTE", 10)
        patched.setattr(poll_choice, "REST_POLLS_PER_MINUTE", 10)
        folder = tmp_path_factory.mktemp("polled")
        with polled_daemon(folder, patched, JOBS, {"cron": "* * * * *"}) as made:
            made.run(121)
            assert made.outcomes() == {"changed": JOBS, "unchanged": JOBS}
            made.github.primary_limit, made.github.secondary_points = 5000, 900
            yield made


@pytest.fixture
def polled(settled: PolledDaemon) -> PolledDaemon:
    """An hour has passed since the last test; its back-offs and pauses are over."""
    settled.clock.advance(7200)
    settled.run(60)
    settled.forget()
    return settled


def test_heads_that_rest_has_no_points_for_come_in_one_query(polled: PolledDaemon) -> None:
    polled.run(60)
    assert polled.requests() == {"graphql 200": 1}
    assert polled.outcomes() == {"unchanged": JOBS}


def test_only_heads_that_are_not_as_known_are_asked_for_by_rest(polled: PolledDaemon) -> None:
    github = polled.github
    github.repos["acme/r5"].commit({"file": "new\n"})
    github.rename("acme/r6", "acme/renamed")
    gone = github.repos.pop("acme/r7")
    refs = github.repos["acme/r8"].refs
    refs["refs/heads/other"] = refs.pop("refs/heads/main")
    polled.run(60)
    requests, outcomes = polled.requests(), polled.outcomes()
    github.repos["acme/r7"], refs["refs/heads/main"] = gone, refs["refs/heads/other"]
    github.rename("acme/renamed", "acme/r6")
    assert requests.pop("graphql 200") == 1
    heads = {name: count for name, count in requests.items() if name.startswith("head")}
    assert heads == {"head 200": 1, "head 404": 1, "head 422": 1}, "a rename keeps its number"
    assert outcomes == {
        "unchanged": JOBS - 3,
        "changed": 1,
        "auth/repository-not-visible": 1,
        "not_found/ref-missing": 1,
    }
    files = [(polled.folder / f"dest/{number}").read_text() for number in (5, 6, 7, 8)]
    assert files == ["new\n", "6\n", "7\n", "8\n"]


def limited(answer: Answer) -> Answer:
    """The hourly limit is used up. Source: renovatebot/renovate issue 21861."""
    error = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for installation ID 42."}
    return replace(answer, body=json.dumps({"errors": [error]}).encode())


@pytest.mark.parametrize(
    "wrong", [faults.status(502), faults.status(404), limited, faults.html(), faults.reset()]
)
def test_a_query_that_fails_leaves_every_head_to_rest(
    polled: PolledDaemon, wrong: faults.FaultEffect
) -> None:
    polled.github.add_fault("graphql", wrong)
    polled.run(60)
    requests = polled.requests()
    assert requests.pop("head 304") == JOBS and sum(requests.values()) == 1
    assert polled.outcomes() == {"unchanged": JOBS}
    polled.forget()
    polled.run(60)
    assert polled.requests() == {"head 304": JOBS}, "GraphQL is left alone for a while"


def test_a_secondary_limit_of_graphql_stops_rest_too(polled: PolledDaemon) -> None:
    text = "You have exceeded a secondary rate limit."
    polled.github.add_fault("graphql", faults.status(403, text, {"retry-after": "60"}))
    polled.run(60)
    assert polled.requests() == {"graphql 403": 1}
    assert polled.outcomes() == {"rate_limited/secondary-limit": JOBS}


def test_a_confirmed_head_counts_only_for_the_commit_that_is_known(
    polled: PolledDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GraphQL confirms the head; then two commits come, of which a push brings one."""
    runner, job = polled.daemon.runner, polled.daemon.app.config.jobs["j9"]
    repo, answered = polled.github.repos["acme/r9"], SingleFlight()
    runner.before_run(job, Trigger.SCHEDULE, answered)
    earlier = answered.unchanged_heads
    assert len(earlier) == 1
    repo.commit({"file": "pushed\n"})
    polled.daemon.queue.enqueue("j9", Trigger.PUSH)
    polled.run(1)
    repo.commit({"file": "later\n"})
    monkeypatch.setattr(
        runner, "before_run", lambda job, trigger, shared: shared.unchanged_heads.update(earlier)
    )
    polled.daemon.queue.enqueue("j9", Trigger.SCHEDULE, 1.0)
    polled.run(1)
    assert (polled.folder / "dest/9").read_text() == "later\n"


@pytest.mark.timeout(0 if REPOSITORIES > 2000 else 120)
def test_the_heads_of_many_repositories_are_asked_for_every_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[[str], None]
) -> None:
    """The heads alone, in groups of twelve seconds as a daemon asks for them; no job runs."""
    with polled_daemon(tmp_path, monkeypatch, REPOSITORIES, {"every": "60s"}) as polled:
        polled.github.primary_limit, polled.github.secondary_points = LIMIT, 900
        app, clock = polled.daemon.app, polled.clock
        clock.advance(3600 - clock.now().timestamp() % 3600)
        jobs = list(app.config.jobs.values())
        polls, source = HeadPolls(app), app.source(app.config.identities["ops"])
        limit, began = polls.limit_of(jobs[0]), clock.monotonic()
        assert limit is not None
        known = {job.name: known_head(polled.github, job) for job in jobs}
        for group in range(5 * MINUTES):
            due = jobs[group % 5 :: 5]
            confirmed = polls.confirm(limit, [Candidate(job, known[job.name]) for job in due])
            view = source.with_cache(SingleFlight())
            for job in due:
                if key_of(job) not in confirmed:
                    head = view.resolve(job.repo, job.ref, known[job.name], app.deadline(job))
                    assert head.unchanged
            polled.requests()
            clock.advance(max(0.0, began + 12 * (group + 1) - clock.monotonic()))
        took, requests = clock.monotonic() - began, polled.requests()
    measured(f"{REPOSITORIES} heads a minute, {took / 60:.1f} of {MINUTES} minutes: {requests}")
    assert set(requests) <= {"graphql 200", "head 304", "token 201"}
    by_rest = requests.get("head 304", 0)
    assert took <= MINUTES * 60 + 60, "no head waits for a limit"
    assert by_rest <= 700 * MINUTES
    assert requests["graphql 200"] * 100 >= REPOSITORIES * MINUTES - by_rest


def known_head(github: GitHub, job: Job) -> Head:
    """The head as a run has stored it."""
    commit = github.repos[job.repo].refs["refs/heads/main"]
    return Head(commit, f'"{commit}"', "heads/main")
