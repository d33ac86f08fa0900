"""Short names in `ref:` that are both a branch and a tag:
which ref is followed never depends on what is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.fastpath import check as fastpath
from syncd.github.webhook import Push, PushOutcome
from syncd.models import RunStatus
from tests.support.clock import FakeClock
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import CommandResult, SyncEnv, sync_env

DAY = timedelta(days=1)
BOTH = "ref: v1 is both a branch and a tag of acme/infra: refs/heads/v1 and refs/tags/v1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock(datetime.now(UTC))
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: made)
    return made


@pytest.fixture
def hub(tmp_path: Path, clock: FakeClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        made.write_config(ref="v1")
        yield made


def make(hub: SyncEnv, kind: str, text: str | None = None) -> None:
    """A branch or tag `v1`, on a commit of its own where `text` is given."""
    commit = (
        hub.repo.head()
        if text is None
        else hub.repo.commit({"nginx/nginx.conf": text}, branch="aside", parents=[])
    )
    hub.repo.refs[f"refs/{kind}/v1"] = commit


def is_refused_as_both(result: CommandResult) -> None:
    error = result.job["error"]
    assert (result.code, error["kind"], error["message"]) == (2, "config", BOTH)
    assert "ref: refs/heads/v1" in error["hint"] and "ref: refs/tags/v1" in error["hint"]


@pytest.mark.parametrize("kinds", [("heads", "tags"), ("tags", "heads")])
def test_a_first_sync_refuses_a_name_that_is_a_branch_and_a_tag(
    hub: SyncEnv, kinds: tuple[str, str]
) -> None:
    for kind in kinds:
        make(hub, kind)
    is_refused_as_both(hub.sync())
    assert hub.tree() == {} and hub.github.routes() == {"head": 2}


@pytest.mark.parametrize(("first", "second"), [("tags", "heads"), ("heads", "tags")])
def test_a_second_ref_of_the_name_is_found_within_a_day_and_files_stay(
    hub: SyncEnv, clock: FakeClock, first: str, second: str
) -> None:
    make(hub, first)
    assert hub.sync().code == 0
    before = hub.tree()
    make(hub, second, "other\n")
    clock.advance(DAY.total_seconds() - 60)
    assert hub.sync().code == 0 and hub.github.routes() == {"head": 1}
    clock.advance(61)
    for _ in range(2):
        is_refused_as_both(hub.sync())
        assert hub.github.routes() == {"head": 2} and hub.tree() == before
        clock.advance(DAY.total_seconds())


def test_a_tag_that_is_replaced_by_a_branch_at_the_same_commit_is_followed_as_the_branch(
    hub: SyncEnv,
) -> None:
    make(hub, "tags")
    assert hub.sync().code == 0
    del hub.repo.refs["refs/tags/v1"]
    make(hub, "heads")
    assert hub.sync().code == 0
    assert hub.github.routes() == {"head": 2}, "the tag, and then the branch; no spelling twice"
    assert hub.sync().code == 0 and hub.github.routes() == {"head": 1}


def test_the_error_ends_when_one_of_the_two_is_deleted_or_the_configuration_names_one(
    hub: SyncEnv,
) -> None:
    make(hub, "tags", "tag\n")
    make(hub, "heads", "branch\n")
    is_refused_as_both(hub.sync())
    hub.write_config(ref="refs/tags/v1")
    assert (
        hub.sync().code == 0
        and hub.tree()["nginx.conf"] == b"tag\n"
        and hub.github.count("head") == 1
    )
    hub.write_config(ref="v1")
    is_refused_as_both(hub.sync())
    del hub.repo.refs["refs/tags/v1"]
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"branch\n"


def test_at_rest_a_short_name_costs_one_request_a_poll_and_one_more_a_day(
    hub: SyncEnv, clock: FakeClock
) -> None:
    make(hub, "tags")
    hub.sync()
    costs = []
    for _ in range(3 * 4):
        clock.advance(DAY.total_seconds() / 4)
        hub.sync()
        costs.append(hub.github.count("head"))
    assert costs == [1, 1, 1, 2] * 3
    assert hub.github.count("head", 422) == 1 and hub.github.count("head", 304) == 1


# What a poll asks on the day of a check: every other spelling that could count before the known
# one, or beside it.
NAMES = [
    (None, [1, 1]),
    ("HEAD", [1, 1]),
    ("refs/heads/main", [1, 1]),
    ("refs/tags/v2", [1, 1]),
    ("COMMIT", [1, 1]),
    ("main", [2, 2]),
    ("v2", [2, 2]),
    ("heads/main", [3, 3]),
    ("tags/v2", [3, 3]),
    ("ABBREVIATED", [3, 3]),
]


@pytest.mark.parametrize(("ref", "costs"), NAMES, ids=[str(ref) for ref, _ in NAMES])
def test_only_a_name_that_can_mean_two_refs_is_checked(
    hub: SyncEnv, clock: FakeClock, ref: str | None, costs: list[int]
) -> None:
    commit = hub.repo.head()
    hub.repo.tag("v2", commit)
    hub.repo.commits[commit[:7]] = hub.repo.commits[
        commit
    ]  # GitHub also knows a commit by the start of its id
    hub.write_config(ref={"COMMIT": commit, "ABBREVIATED": commit[:7]}.get(ref or "", ref))
    found = []
    for _ in range(2):
        assert hub.sync().code == 0
        found.append(hub.github.count("head"))
        clock.advance(DAY.total_seconds())
    assert found == costs


@pytest.mark.parametrize("kind", ["heads", "tags"])
@pytest.mark.parametrize("with_state", [True, False])
def test_a_branch_or_tag_counts_before_an_abbreviated_commit_id(
    hub: SyncEnv, clock: FakeClock, kind: str, with_state: bool
) -> None:
    commit = hub.repo.head()
    hub.repo.commits[commit[:7]] = hub.repo.commits[commit]
    hub.write_config(ref=commit[:7])
    if with_state:
        assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"
        clock.advance(DAY.total_seconds())
    hub.repo.refs[f"refs/{kind}/{commit[:7]}"] = hub.repo.commit(
        {"nginx/nginx.conf": "two\n"}, branch="aside"
    )
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"two\n"


def test_plan_check_and_an_override_refuse_the_name_too(hub: SyncEnv) -> None:
    make(hub, "tags")
    assert hub.sync().code == 0
    make(hub, "heads", "other\n")
    done = hub.call("check", "--online")
    assert done.code == 2 and BOTH in done.err
    (hub.state / "syncd.db").unlink()
    planned = hub.plan()
    assert (planned.code, planned.job["error"]["kind"]) == (2, "config")
    hub.write_config(ref="main")
    assert hub.sync("nginx", "--ref", "v1").code == 2


def test_the_nothing_to_do_check_gives_way_to_a_full_run_when_the_name_is_due(
    hub: SyncEnv, clock: FakeClock
) -> None:
    make(hub, "tags")
    hub.sync()
    clock.advance(DAY.total_seconds() / 2)
    hub.sync()  # the note is written anew, half a day after the check
    asked = ["-c", str(hub.config), "sync"]
    checked = clock.now().timestamp() - DAY.total_seconds() / 2
    assert isinstance(
        fastpath.check(asked, os.environ, checked + DAY.total_seconds() - 1), fastpath.UpToDate
    )
    hub.github.forget_requests()
    found = fastpath.check(asked, os.environ, checked + DAY.total_seconds())
    assert not isinstance(found, fastpath.UpToDate)
    found.wait()
    assert found.replies == [] and not hub.github.requests


def test_a_clock_that_was_set_back_puts_no_check_off(hub: SyncEnv, clock: FakeClock) -> None:
    make(hub, "tags")
    clock.advance(365 * DAY.total_seconds())
    assert hub.sync().code == 0
    make(hub, "heads")
    clock.advance(-365 * DAY.total_seconds())
    is_refused_as_both(hub.sync())


def test_a_store_that_never_checked_the_name_has_it_checked_once(hub: SyncEnv) -> None:
    make(hub, "tags")
    hub.sync()
    _execute(hub, "UPDATE head SET checked_at = NULL")
    hub.sync()
    assert hub.github.count("head") == 2
    hub.sync()
    assert hub.github.count("head") == 1


def _execute(hub: SyncEnv, statement: str) -> None:
    import sqlite3

    with sqlite3.connect(hub.state / "syncd.db") as connection:
        connection.execute(statement)
    connection.close()


@pytest.fixture
def days(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDaemon]:
    with simulated_daemon(memory_path, monkeypatch) as made:
        made.guard_seconds = 3600.0  # days pass
        repo = made.github.add_repo("acme/r", {"files/a": "a\n"})
        repo.tag("v1", repo.head())
        made.add("j", "acme/r", "4h", ref="v1")
        made.begin(lambda: 0.5)
        made.run(120)
        made.github.forget_requests()
        made.reports.clear()
        yield made


def test_a_daemon_at_rest_asks_once_more_a_day_and_finds_a_second_ref(
    days: SimulatedDaemon,
) -> None:
    days.run(2.5 * DAY.total_seconds())
    assert (
        days.github.count("head", 304) == 15
        and days.github.count("head", 422) == 2
        and days.settled() == {"j": None}
    )
    repo = days.github.repos["acme/r"]
    repo.refs["refs/heads/v1"] = repo.head()
    days.run(DAY.total_seconds() + 4 * 3600)
    assert days.settled() == {
        "j": "ref: v1 is both a branch and a tag of acme/r: refs/heads/v1 and refs/tags/v1"
    }


def test_a_push_of_the_second_ref_is_found_at_once(days: SimulatedDaemon) -> None:
    repo = days.github.repos["acme/r"]
    repo.refs["refs/heads/v1"] = repo.head()
    outcome = days.daemon.push_trigger.push_received(
        Push("acme/r", "refs/heads/v1", repo.head(), False, "main", None, repo.id),
        "1",
        "a push",
    )
    assert outcome == PushOutcome(1)
    days.run(1)
    assert days.settled() == {
        "j": "ref: v1 is both a branch and a tag of acme/r: refs/heads/v1 and refs/tags/v1"
    }


def test_a_push_of_the_followed_ref_costs_no_check(days: SimulatedDaemon) -> None:
    repo = days.github.repos["acme/r"]
    days.daemon.push_trigger.push_received(
        Push("acme/r", "refs/tags/v1", repo.head(), False, "main", None, repo.id), "1", "a push"
    )
    days.run(1)
    assert [report.status for _, report in days.reports] == [
        RunStatus.UNCHANGED
    ] and days.github.count("head") == 1
